r"""Labels: inline text, .txt, .csv and .json files, Python values -> ordered, unique `Label`s.

The grammar of one label, in `--labels`, `--label` and the lines of a .txt file:

```
label                       the wording is the name with - and _ as spaces
label=wording               the label's own text for the template's slot
label=wording|wording       several of them
"..."  \,  \"  \=  \|  \\   literal characters; a quoted part may stand anywhere
```

Only `--labels` separates labels with commas. CSV cells, JSON strings and Python strings inside a
list or mapping are taken as they are: those forms have a quoting of their own.
"""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipcls.errors import LabelError, UsageError

RESERVED = ("path", "prediction", "probability", "error")
"""The fixed columns of every output; no label may have their names."""

RAW_PREFIXES = ("logit:", "similarity:")
"""What the raw columns of a label begin with."""

_ESCAPABLE = frozenset(',"\\=|')
# Controls, lone surrogates, line and paragraph separators: they break headers or cannot be encoded.
_UNWRITABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

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


@dataclass(frozen=True, slots=True)
class _Entry:
    """A label that still knows where it was written."""

    name: str
    wordings: tuple[str, ...]
    where: str


def default_wording(name: str) -> str:
    """Return `name` with `-` and `_` as spaces: how a label is worded that has no text of its own.

    A name of nothing but such characters is its own wording.
    """
    return " ".join(name.replace("-", " ").replace("_", " ").split()) or name


def is_writable(text: str) -> bool:
    """Whether every character can stand in a table's header and on one line of UTF-8."""
    return all(unicodedata.category(char) not in _UNWRITABLE for char in text)


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


def _inline_entries(text: str, where: str) -> list[_Entry]:
    fields = _split(_scan(text, where), ",")
    return [_entry(field, f"{where}, label {i}") for i, field in enumerate(fields, 1)]


def _single_entry(text: str, where: str) -> _Entry:
    return _entry(_scan(text, where), where)


def _scan(text: str, where: str) -> list[_Token]:
    """Resolve quotes and backslashes; a doubled quote inside quotes is one, as in CSV."""
    tokens: list[_Token] = []
    quoted = False
    i = 0
    while i < len(text):
        char, following = text[i], text[i + 1 : i + 2]
        escape = char == "\\" and following in _ESCAPABLE
        if escape or (quoted and char == following == '"'):
            tokens.append((following, True))
            i += 2
            continue
        if char == '"':
            quoted = not quoted
        else:
            tokens.append((char, quoted))
        i += 1
    if quoted:
        raise LabelError(
            f'{where}: a quote is opened and never closed: close it, or write \\" for "'
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


def read_labels(path: Path) -> tuple[Label, ...]:
    """Read a label file; its extension says what it is.

    .txt: one label per line in the inline grammar, commas literal; blank lines and lines that begin
    with `#` do not count. .csv: the header `label,prompt`, `prompt` optional or empty, rows of one
    label add wordings; or a single column without a header. .json: `{"label": ["wording", ...]}`,
    `{"label": "wording"}`, `{"label": null}` or a list of names.

    Raises:
        LabelError: The file cannot be read, or what it says cannot be used; names file and line.
    """
    return _checked(_file_entries(path))


def _file_entries(path: Path) -> list[_Entry]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None and path.is_dir():
        raise LabelError(f"{path}: is a folder, a label file is needed (--labels-file)")
    if reader is None:
        raise LabelError(
            f"{path}: a label file ends in {', '.join(_READERS)}: rename it, or give the labels"
            " with --labels"
        )
    entries = list(reader(path))
    if not entries:
        raise LabelError(f"{path}: the file holds no labels")
    return entries


def read_text(path: Path, error: type[UsageError] = LabelError) -> str:
    """Return a UTF-8 file's text with `\\n` line ends and without a byte order mark.

    Args:
        path: The file.
        error: What to raise, so that each room fails with its own error.

    Raises:
        UsageError: As `error`, when the file cannot be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise error(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise error(f"{path}:{line}: the text is not UTF-8: save the file as UTF-8") from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, error: type[UsageError] = LabelError) -> Iterator[tuple[str, str]]:
    """Yield (`file:line`, line) of a UTF-8 file without blank lines and `#` comments.

    Lines come without the blanks around them. Arguments and errors are those of `read_text`.
    """
    for number, line in enumerate(read_text(path, error).split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield f"{path}:{number}", stripped


def _read_txt(path: Path) -> Iterator[_Entry]:
    for where, line in read_lines(path):
        yield _single_entry(line, where)


def _read_csv(path: Path) -> Iterator[_Entry]:
    rows = _csv_rows(path)
    if not rows:
        return
    where, first = rows[0]
    columns = [cell.lower() for cell in first]
    if "label" in columns:
        _check_header(columns, where)
        rows = rows[1:]
    else:
        _check_headerless(first, where)
        columns = ["label"]
    yield from _merge_rows(_csv_cells(rows, columns))


def _csv_rows(path: Path) -> list[tuple[str, list[str]]]:
    """Return (`file:line`, stripped cells) of each row that is not blank."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = []
    line = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((f"{path}:{line}", cells))
            line = reader.line_num + 1
    except csv.Error as exc:
        raise LabelError(f"{path}:{line}: not valid CSV: {exc}") from exc
    return rows


def _check_header(columns: Sequence[str], where: str) -> None:
    unknown = [name for name in columns if name not in ("label", "prompt")]
    if unknown or len(set(columns)) < len(columns):
        raise LabelError(
            f"{where}: the columns are {', '.join(columns)}; allowed are label and prompt,"
            " once each"
        )


def _check_headerless(first: Sequence[str], where: str) -> None:
    separators = [sep for sep in ";\t|" if first[0].lower().startswith(f"label{sep}")]
    if separators:
        raise LabelError(f"{where}: the separator is {separators[0]!r}; allowed is the comma")
    if len(first) > 1:
        raise LabelError(
            f"{where}: {len(first)} columns and no header: begin the file with the line"
            " label,prompt"
        )


def _csv_cells(
    rows: Iterable[tuple[str, list[str]]], columns: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield (where, label, prompt) per row."""
    for where, cells in rows:
        if len(cells) > len(columns):
            raise LabelError(
                f"{where}: {len(cells)} cells for {len(columns)} columns: put quotes around a text"
                " with commas"
            )
        row = dict(zip(columns, cells, strict=False))
        yield where, row.get("label", ""), row.get("prompt", "")


def _merge_rows(rows: Iterable[tuple[str, str, str]]) -> Iterator[_Entry]:
    """Join the rows of one label; the same wording twice is a mistake in the file."""
    names: dict[str, str] = {}
    wordings: dict[str, dict[str, str]] = {}  # label -> wording -> where
    for where, name, prompt in rows:
        key = _key(name)
        names.setdefault(key, name)
        earlier = wordings.setdefault(key, {})
        wording = prompt or default_wording(name)
        if wording in earlier and name:
            raise LabelError(
                f"{where}: the label {name!r} repeats {earlier[wording]}: remove one of the lines"
                " or give them different prompts"
            )
        earlier[wording] = where
    for key, texts in wordings.items():
        yield _Entry(names[key], tuple(texts), next(iter(texts.values())))


def _read_json(path: Path) -> Iterator[_Entry]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # json keeps the last of two equal keys and says nothing.
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise LabelError(f"{path}: the label {name!r} is there twice: remove one of them")
            seen.add(name)
        return dict(pairs)

    try:
        value = json.loads(read_text(path), object_pairs_hook=unique)
    except json.JSONDecodeError as exc:
        raise LabelError(f"{path}:{exc.lineno}: not valid JSON: {exc.msg}") from exc
    except RecursionError as exc:
        raise LabelError(f"{path}: not a label file: nested too deeply") from exc
    yield from _value_entries(value, str(path))


_READERS = {".txt": _read_txt, ".csv": _read_csv, ".json": _read_json}


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
    if isinstance(value, Mapping):
        for i, (name, wordings) in enumerate(value.items(), 1):
            yield _named_entry(name, wordings, f"{where}, label {i}")
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes, set, frozenset)):
        for i, item in enumerate(value, 1):
            if isinstance(item, Label):
                yield _Entry(item.name, item.wordings, f"{where}, label {i}")
            else:
                yield _named_entry(item, None, f"{where}, label {i}")
    else:
        raise LabelError(
            f"{where}: a {type(value).__name__} holds no labels; allowed are a list of names and"
            " a mapping of names to wordings"
        )


def _named_entry(name: object, wordings: object, where: str) -> _Entry:
    if not isinstance(name, str):
        raise LabelError(f"{where}: a label is a text, not {name!r}")
    if wordings is None:
        return _Entry(name, (default_wording(name),), where)
    texts = (wordings,) if isinstance(wordings, str) else wordings
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise LabelError(
            f"{where}: the wording of {name!r} is a text or a list of texts, not {wordings!r}"
        )
    return _Entry(name, tuple(texts), where)


# --- the whole list -------------------------------------------------------------------------------


def collect_labels(
    *, inline: Sequence[str] = (), single: Sequence[str] = (), file: Path | None = None
) -> tuple[Label, ...]:
    """Join the labels of all flags, in this order: `--labels`, `--label`, `--labels-file`.

    Args:
        inline: Values of `--labels`: several labels each.
        single: Values of `--label`: one label each, commas literal.
        file: Value of `--labels-file`.

    Raises:
        LabelError: As in `parse_labels` and `read_labels`, or nothing was given.
    """
    entries: list[_Entry] = []
    for i, text in enumerate(inline, 1):
        _check_not_a_file(text)
        entries += _inline_entries(text, "--labels" if len(inline) == 1 else f"--labels ({i})")
    for i, text in enumerate(single, 1):
        entries.append(_single_entry(text, "--label" if len(single) == 1 else f"--label ({i})"))
    if file is not None:
        entries += _file_entries(file)
    if not entries:
        raise LabelError("no labels: give --labels a,b,c or --label NAME or --labels-file FILE")
    return _checked(entries)


def _check_not_a_file(text: str) -> None:
    """Catch `--labels names.txt`, which would otherwise be one label of that name."""
    # os.path, because Path.is_file fails for a text too long to be a name.
    if text.lower().endswith(tuple(_READERS)) and os.path.isfile(text):
        raise LabelError(
            f"--labels: {text!r} is a file: read it with --labels-file, or use --label for a label"
            " of that name"
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
        _check_raw_columns(entry, seen)
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


def _check_raw_columns(entry: _Entry, names: Mapping[str, _Entry]) -> None:
    for prefix in RAW_PREFIXES:
        if entry.name.startswith(prefix) and _key(entry.name[len(prefix) :]) in names:
            raise LabelError(
                f"{entry.where}: {entry.name!r} is the raw column of the label"
                f" {entry.name[len(prefix) :]!r}: call the label otherwise"
            )
