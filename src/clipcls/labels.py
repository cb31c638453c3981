r"""Labels: inline text, files and Python values -> ordered, unique `Label`s.

The grammar of one label, in `--labels`, `--label` and the lines of a .txt file:

```
label                       the wording is the name with - and _ as spaces
label=wording               the label's own text for the template's slot
label=wording|wording       several of them
"..."                       a name or wording that begins with a quote is literal to the next quote
\,  \"  \=  \|  \\          literal characters
```

As in CSV, a quote inside a word is a character (`27" monitor`), and `""` in a quoted text is one.
Only `--labels` separates labels with commas. CSV cells, JSON strings and Python strings inside a
list or mapping are taken as they are: those forms have a quoting of their own.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from clipcls.errors import LabelError
from clipcls.text import content_lines, csv_rows, is_writable, read_file, split_separator

RESERVED = ("path", "prediction", "probability", "note", "error")
"""The fixed columns of every output; no label may have their names."""

RAW_PREFIXES = ("logit:", "similarity:")
"""What the raw columns of a label begin with."""

_ESCAPABLE = frozenset(',"\\=|')
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_is_label_column = re.compile(
    r"labels?|names?|class(es)?|categor(y|ies)|(label|class|category)[ _-]?names?", re.IGNORECASE
).fullmatch
_is_wording_column = re.compile(r"(prompt|text|wording|description)s?", re.IGNORECASE).fullmatch
# A path, a pattern, @list, - or a file's name: not a word that could be a label.
_looks_like_input = re.compile(r"[@-]|.*([/\\*?\[]|\.\w{2,5}$)|$", re.DOTALL).match

_Token = tuple[str, bool]  # a character, and whether it was quoted or escaped


@dataclass(frozen=True, slots=True)
class Label:
    """A class.

    Attributes:
        name: Exactly as the user wrote it; it is the column name in every output.
        wordings: What goes into a template's slot; never empty.
    """

    name: str
    wordings: tuple[str, ...]


class _Entry(NamedTuple):
    """A label that still knows where it was written."""

    name: str
    wordings: tuple[str, ...]
    where: str


def default_wording(name: str) -> str:
    """Return `name` with `-` and `_` as spaces: how a label is worded that has no text of its own.

    A name of nothing but such characters is its own wording.
    """
    return " ".join(name.replace("-", " ").replace("_", " ").split()) or name


# --- the grammar of inline text -------------------------------------------------------------------


def parse_labels(text: str, where: str = "--labels") -> tuple[Label, ...]:
    r"""Read labels from inline text such as `cat,dog=a small dog|a big dog`.

    Args:
        text: Labels separated by commas; the module's docstring has the grammar.
        where: Where the text stands, for messages.

    Raises:
        LabelError: A label is empty, repeated or not usable as a column, or a quote stays open.
    """
    return _checked(_inline_entries(text, where))


def split_pairs(text: str, where: str) -> list[tuple[str, tuple[str, ...]]]:
    """Split `a=b,c=d|e` into pairs of a name and its texts, in the grammar of `parse_labels`.

    Raises:
        LabelError: A part has no `=` or nothing beside it, or a quote stays open.
    """
    pairs = []
    for field in _split(_scan(text, where, ",=|"), ","):
        entry = _entry(field, where)
        if ("=", False) not in field or not entry.name or not all(entry.wordings):
            raise LabelError(f"{where}: {_text(field)!r} is no pair: write VALUE=LABEL,VALUE=LABEL")
        pairs.append((entry.name, entry.wordings))
    return pairs


def _inline_entries(text: str, where: str) -> list[_Entry]:
    fields = _split(_scan(text, where, ",=|"), ",")
    return [_entry(field, f"{where}, label {i}") for i, field in enumerate(fields, 1)]


def _single_entry(text: str, where: str) -> _Entry:
    return _entry(_scan(text, where, "=|"), where)


def _scan(text: str, where: str, separators: str) -> list[_Token]:
    """Resolve quotes and backslashes; a quote counts where a field begins, as in CSV."""
    tokens: list[_Token] = []
    begins, quoted, closed = True, False, False
    i = 0
    while i < len(text):
        char, following = text[i], text[i + 1 : i + 2]
        pair = (char == "\\" and following in _ESCAPABLE) or (quoted and char == following == '"')
        if char == '"' and not pair and (quoted or begins):
            begins, quoted, closed = False, not quoted, quoted
        else:
            tokens.append((following if pair else char, pair or quoted))
            if char in separators and not (pair or quoted):
                begins, closed = True, False
            elif pair or not char.isspace():
                begins = False
                if closed:
                    raise LabelError(
                        f'{where}: text follows a closing quote: write \\" for a quote that is part'
                        " of the label"
                    )
        i += 1 + pair
    if quoted:
        raise LabelError(
            f'{where}: a quote is opened and never closed: close it, or write \\" for a quote that'
            " is part of the label"
        )
    return tokens


def _split(tokens: Sequence[_Token], separator: str) -> list[list[_Token]]:
    fields: list[list[_Token]] = [[]]
    for token in tokens:
        if token == (separator, False):
            fields.append([])
        else:
            fields[-1].append(token)
    return fields


def _text(tokens: Sequence[_Token]) -> str:
    """Join tokens, without the blanks around them that nobody quoted."""
    solid = [i for i, (char, literal) in enumerate(tokens) if literal or not char.isspace()]
    return "".join(char for char, _ in tokens[solid[0] : solid[-1] + 1]) if solid else ""


def _entry(tokens: Sequence[_Token], where: str) -> _Entry:
    if ("=", False) not in tokens:
        name = _text(tokens)
        if ("|", False) in tokens:
            raise LabelError(
                f"{where}: {name!r} has several wordings and no name: write a name and = before"
                r" them, or \| for a bar in the name"
            )
        return _Entry(name, (default_wording(name),), where)
    equals = tokens.index(("=", False))
    wordings = tuple(_text(field) for field in _split(tokens[equals + 1 :], "|"))
    return _Entry(_text(tokens[:equals]), wordings, where)


# --- files ----------------------------------------------------------------------------------------


def read_labels(path: Path, notes: list[str] | None = None) -> tuple[Label, ...]:
    """Read a label file; its extension says what it is.

    .txt: one label per line in the inline grammar, commas literal; blank lines and lines that begin
    with `#` do not count. .csv, .tsv: a header such as `label,prompt`, the wordings optional or
    empty, rows of one label add wordings; or a single column without a header. .json:
    `{"label": ["wording", ...]}`, `{"label": "wording"}`, `{"label": null}` or a list of names.
    Standard input and files without an extension, such as pipes, are any of these.

    Args:
        path: The file; `-` is standard input.
        notes: Is given what was taken for a header, and whether the encoding was guessed.

    Raises:
        LabelError: The file cannot be read, or what it says cannot be used; names file and line.
    """
    return _checked(_file_entries(path, notes))


def read_wordings(path: Path, labels: Sequence[Label]) -> dict[str, tuple[str, ...]]:
    """Read wordings to choose from: as `read_labels`, but a label may have many lines.

    Args:
        path: The file.
        labels: The labels that it may name.

    Returns:
        Label name -> its wordings in the file; only the labels that it names.

    Raises:
        LabelError: As in `read_labels`, or a label is none of these.
    """
    known = {label.name for label in labels}
    found: dict[str, dict[str, None]] = {}
    for entry in _file_entries(path, None):
        _check_entry(entry)
        if entry.name not in known:
            raise LabelError(
                f"{entry.where}: there is no label {entry.name!r} among the labels: write it as"
                " they are written, or remove the line"
            )
        found.setdefault(entry.name, {}).update(dict.fromkeys(entry.wordings))
    return {name: tuple(wordings) for name, wordings in found.items()}


def _file_entries(path: Path, notes: list[str] | None) -> list[_Entry]:
    suffix = path.suffix.lower()
    if suffix and suffix not in _READERS and path.is_file():
        raise LabelError(
            f"{path}: a label file ends in {', '.join(_READERS)}: rename it, or give the labels"
            " with --labels"
        )
    notes = [] if notes is None else notes
    name, text = read_file(path, LabelError, notes)
    reader = _READERS.get(suffix)
    if reader is None:
        ends = text.strip()[:1] + text.strip()[-1:]
        table = _read_csv if _layout(text, ",")[1] else _read_txt
        reader = _read_json if ends in ("[]", "{}") else table
    entries = list(reader(text, name, notes))
    if not entries:
        raise LabelError(f"{name}: the file holds no labels")
    return entries


def _read_txt(text: str, name: str, notes: list[str]) -> Iterator[_Entry]:
    for where, line in content_lines(text, name):
        yield _single_entry(line, where)


def _read_csv(text: str, name: str, notes: list[str], separator: str = ",") -> Iterator[_Entry]:
    """Read a table of labels and wordings or, without a header, of labels alone."""
    named, text = split_separator(text)
    separator, headed = _layout(text, named or separator)
    rows = csv_rows(text, name, separator, LabelError)
    where, columns = rows[0] if rows else (name, [])
    if not headed:
        if len(columns) > 1:
            raise LabelError(
                f"{where}: {len(columns)} columns and no header: begin the file with the line"
                f" label{separator}prompt"
            )
        columns = ["label"]
    kinds = ["label" if _is_label_column(name) else "prompt" for name in columns]
    known = all(_is_label_column(name) or _is_wording_column(name) for name in columns)
    if not known or len(set(kinds)) < len(kinds):
        raise LabelError(
            f"{where}: the columns are {', '.join(columns)}; allowed are label (or class, name,"
            " category) and prompt (or text, wording, description), once each"
        )
    if headed:
        between = f", separated by {_SEPARATORS[separator]}" if len(columns) > 1 else ""
        notes.append(f"{where}: taken for the header, not a label: {', '.join(columns)}{between}")
    yield from _merge_rows(rows[headed:], kinds, _SEPARATORS[separator])


def _layout(text: str, separator: str) -> tuple[str, bool]:
    """Return what separates the cells of a table, by default `separator`, and if it has a header.

    A header names a column of labels; what it is split by is what splits the file.
    """
    lines = [line for line in text.split("\n") if line.strip(" ,;\t|")]
    # The csv module has a limit for cells, which a first line that is no header may exceed.
    first = [line[:1000] for line in lines[:1]]
    widths = {}
    for candidate in (separator, *_SEPARATORS):
        cells = next(csv.reader(first, delimiter=candidate, skipinitialspace=True), [])
        if any(_is_label_column(cell.strip()) for cell in cells):
            widths[candidate] = len(cells)
    if widths:
        return max(widths, key=widths.__getitem__), True
    # Spreadsheets write semicolons where the comma is the decimal sign.
    regular = [other for other in ";\t" if all(other in line for line in lines)]
    return (regular[0] if regular and separator == "," else separator), False


def _merge_rows(
    rows: Iterable[tuple[str, list[str]]], kinds: Sequence[str], separators: str
) -> Iterator[_Entry]:
    """Join the rows of one label; the same wording twice is a mistake in the file."""
    merged: dict[str, tuple[str, dict[str, str]]] = {}  # key -> name, wording -> where
    for where, cells in rows:
        if len(cells) > len(kinds):
            columns = "1 column" if len(kinds) == 1 else f"{len(kinds)} columns"
            raise LabelError(
                f"{where}: {len(cells)} cells for {columns}: put quotes around a text with"
                f" {separators}"
            )
        row = dict(zip(kinds, cells, strict=False))
        name = row.get("label", "")
        _, earlier = merged.setdefault(_key(name), (name, {}))
        wording = row.get("prompt") or default_wording(name)
        if wording in earlier and name:
            raise LabelError(
                f"{where}: the label {name!r} repeats {earlier[wording]}: remove one of the lines"
                " or give them different prompts"
            )
        earlier[wording] = where
    for name, texts in merged.values():
        yield _Entry(name, tuple(texts), next(iter(texts.values())))


def _read_json(text: str, name: str, notes: list[str]) -> Iterator[_Entry]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # json keeps the last of two equal keys and says nothing.
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                raise LabelError(f"{name}: the label {key!r} is there twice: remove one of them")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as exc:
        raise LabelError(f"{name}:{exc.lineno}: not valid JSON: {exc.msg}") from exc
    except (RecursionError, ValueError) as exc:
        raise LabelError(
            f"{name}: not a label file: nested too deeply, or a number in it is too long"
        ) from exc
    yield from _value_entries(value, name)


_READERS: dict[str, Callable[[str, str, list[str]], Iterator[_Entry]]] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, separator="\t"),
    ".json": _read_json,
}


# --- Python and JSON values -----------------------------------------------------------------------


def make_labels(
    labels: str | Path | Sequence[str | Label] | Mapping[str, str | Sequence[str] | None],
) -> tuple[Label, ...]:
    """Read labels from what a Python caller passes.

    Args:
        labels: Inline text (a string is never taken for a list of letters), the path of a label
            file, a sequence of names or finished labels, or a mapping of names to wordings, where
            None stands for the default wording. Names and wordings in a sequence or mapping are
            taken as they are.

    Raises:
        LabelError: As in `parse_labels` and `read_labels`.
    """
    if isinstance(labels, str):
        return parse_labels(labels, "labels")
    if isinstance(labels, Path):
        return read_labels(labels)
    return _checked(list(_value_entries(labels, "labels")))


def _value_entries(value: object, where: str) -> Iterator[_Entry]:
    items: Iterable[tuple[object, object]]
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes, set, frozenset)):
        items = ((x.name, x.wordings) if isinstance(x, Label) else (x, None) for x in value)
    else:
        raise LabelError(
            f"{where}: a {type(value).__name__} holds no labels; allowed are a list of names and"
            " a mapping of names to wordings"
        )
    for i, (name, wordings) in enumerate(items, 1):
        place = f"{where}, label {i}"
        if not isinstance(name, str):
            raise LabelError(f"{place}: a label is a text, not {name!r}")
        texts = default_wording(name) if wordings is None else wordings
        texts = (texts,) if isinstance(texts, str) else texts
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise LabelError(
                f"{place}: the wording of {name!r} is a text or a list of texts, not {wordings!r}"
            )
        yield _Entry(name, tuple(texts), place)


# --- the whole list -------------------------------------------------------------------------------


def collect_labels(
    *,
    inline: Sequence[str] = (),
    single: Sequence[str] = (),
    file: Path | None = None,
    notes: list[str] | None = None,
) -> tuple[Label, ...]:
    """Join the labels of all flags, in this order: `--labels`, `--label`, `--labels-file`.

    Args:
        inline: Values of `--labels`: several labels each.
        single: Values of `--label`: one label each, commas literal.
        file: Value of `--labels-file`.
        notes: As in `read_labels`.

    Raises:
        LabelError: As in `parse_labels` and `read_labels`, or nothing was given.
    """
    entries: list[_Entry] = []
    for i, text in enumerate(inline, 1):
        # `--labels names.txt` would be one label of that name. os.path, because Path.is_file fails
        # for a text too long to be a name.
        if text.lower().endswith(tuple(_READERS)) and os.path.isfile(text):
            raise LabelError(
                f"--labels: {text!r} is a file: read it with --labels-file, or use --label for a"
                " label of that name"
            )
        entries += _inline_entries(text, "--labels" if len(inline) == 1 else f"--labels ({i})")
    for i, text in enumerate(single, 1):
        entries.append(_single_entry(text, "--label" if len(single) == 1 else f"--label ({i})"))
    if file is not None:
        entries += _file_entries(file, notes)
    if not entries:
        raise LabelError("no labels: give --labels a,b,c or --label NAME or --labels-file FILE")
    return _checked(entries)


def check_not_split(inputs: Sequence[str], inline: Sequence[str]) -> None:
    """Catch `--labels cat dog`, which the shell hands on as the label `cat` and the input `dog`.

    Args:
        inputs: What is to be classified, as the user wrote it.
        inline: Values of `--labels`; they need not be valid, as in `--labels cat, dog`.

    Raises:
        LabelError: Inputs that are not there look like the rest of a list of labels.
    """
    words = [text for text in inputs if not (_looks_like_input(text) or os.path.lexists(text))]
    # Without another input, and after a list that is whole, it is rather a folder misspelt.
    if words and inline and (len(words) < len(inputs) or "," not in inline[-1].strip(" ,")):
        parts = [part.strip(" ,") for part in (inline[-1], *words)]
        raise LabelError(
            f"no such file or folder: {words[0]}; if it is a label: labels are joined by commas,"
            f' without blanks or in quotes: --labels "{",".join(filter(None, parts))}"'
        )


def _checked(entries: Sequence[_Entry]) -> tuple[Label, ...]:
    if not entries:
        raise LabelError("no labels: give at least one name")
    seen: dict[str, _Entry] = {}
    for entry in entries:
        _check_entry(entry)
        earlier = seen.setdefault(_key(entry.name), entry)
        if earlier is not entry:
            raise LabelError(
                f"{entry.where}: the label {entry.name!r} is already there ({earlier.where}):"
                " remove one of them"
            )
    for entry in entries:
        for prefix in RAW_PREFIXES:
            raw = entry.name.removeprefix(prefix)
            if raw != entry.name and _key(raw) in seen:
                raise LabelError(
                    f"{entry.where}: {entry.name!r} is the raw column of the label {raw!r}: call"
                    " the label otherwise"
                )
    return tuple(Label(entry.name, entry.wordings) for entry in entries)


def _key(name: str) -> str:
    """Names that look alike because they differ only in their Unicode form count as one."""
    return unicodedata.normalize("NFC", name)


def _check_entry(entry: _Entry) -> None:
    if not entry.name.strip():
        raise LabelError(f"{entry.where}: the label is empty: give it a name or remove it")
    if not entry.wordings or not all(text.strip() for text in entry.wordings):
        raise LabelError(
            f"{entry.where}: the label {entry.name!r} has an empty wording: write it, or leave it"
            " out for the default"
        )
    for text in (entry.name, *entry.wordings):
        if not is_writable(text):
            raise LabelError(
                f"{entry.where}: {text!r} holds a line break, tab or other character that no table"
                " can hold: remove it"
            )
    if entry.name in RESERVED:
        raise LabelError(
            f"{entry.where}: {entry.name!r} is a fixed column of the output (with"
            f" {', '.join(name for name in RESERVED if name != entry.name)}): call the label"
            f" otherwise and keep its text, such as {entry.name}-class={entry.wordings[0]}"
        )
