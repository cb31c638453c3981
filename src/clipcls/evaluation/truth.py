"""The one join of images and a labelled table: which image is what, by a person's word.

A row names its image by a relative path, a name or a stem. Folders must not contradict each other:
`train/1.jpg` in the table is not the image `val/1.jpg`, whatever else they share.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipcls.errors import InputError, MissingExtraError, OptionError
from clipcls.inputs.decode import is_candidate
from clipcls.inputs.patterns import name_order
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import Discovery
from clipcls.labels import Label, default_wording, make_labels, split_pairs
from clipcls.question import Inputs
from clipcls.text import read_file, visible

if TYPE_CHECKING:
    import pandas as pd

_DELIMITERS = ",;\t|"
_IMAGE_NAMES = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "img", "photo"),
    *("image_path", "image_file", "image_name", "image_id", "name", "id"),
)
_LABEL_NAMES = (
    *("label", "labels", "class", "target", "truth", "category", "class_name", "true_label"),
    *("classes", "tags", "y"),
)
_SAMPLE_ROWS = 200
"""So many rows are looked at to guess a column."""

_is_slot = re.compile(r"\{([^{}:]+)(?::0?(\d+)d?)?\}")


@dataclass(frozen=True)
class TruthOptions:
    """How a table is read and joined.

    Attributes:
        image_column: The column that names the images; None guesses.
        label_column: The column of the truth; None guesses.
        image_pattern: A name with `{column}` slots (`{column:05}` pads with zeros to five digits).
        mapping: (truth value, label name) pairs.
        class_names: The labels that the truth values 0, 1, ... stand for.
        ignore_unknown: Whether rows are left out whose truth is no label.
        multi_label: Whether a cell holds any number of labels, separated by `;`.
        limit: Only the first so many.
        sample: A random choice of so many.
        seed: Of that choice.
    """

    image_column: str | None = None
    label_column: str | None = None
    image_pattern: str | None = None
    mapping: tuple[tuple[str, str], ...] = ()
    class_names: tuple[Label, ...] = ()
    ignore_unknown: bool = False
    multi_label: bool = False
    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for flag, number in (("--limit", self.limit), ("--sample", self.sample)):
            if number is not None and number < 1:
                raise OptionError(f"{flag} is {number}: give a whole number of 1 or more")
        if self.limit is not None and self.sample is not None:
            raise OptionError("--limit and --sample contradict each other: give one of them")
        if self.image_column is not None and self.image_pattern is not None:
            raise OptionError(
                "--image-column and --image-pattern contradict each other: give one of them"
            )


@dataclass(frozen=True)
class JoinReport:
    """What did not come together; nothing is left out without being counted here.

    Attributes:
        notes: What was guessed, one sentence each.
        rows_without_image: What those rows call their image.
        images_without_row: Their paths.
        ambiguous: (name or path, why) of rows and images that could mean several.
        unknown_values: Truth value that is no label -> rows, left out as was asked.
        without_truth: Rows whose cell is empty, and images outside any folder of a class.
        left_out: Images that `--limit` or `--sample` left out.
    """

    notes: tuple[str, ...] = ()
    rows_without_image: tuple[str, ...] = ()
    images_without_row: tuple[str, ...] = ()
    ambiguous: tuple[tuple[str, str], ...] = ()
    unknown_values: Mapping[str, int] = field(default_factory=dict)
    without_truth: tuple[str, ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Truth:
    """Images with what a person says they show, in the order of the table.

    Attributes:
        labels: The C labels.
        refs: The N images.
        values: N tuples of label names: one each or, with several labels to an image, any number.
        report: What did not come together.
    """

    labels: tuple[Label, ...]
    refs: tuple[ImageRef, ...]
    values: tuple[tuple[str, ...], ...]
    report: JoinReport

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return tuple(label.name for label in self.labels)


class _Found(NamedTuple):
    """An image with its truth as the table has it."""

    ref: ImageRef
    value: str


# --- the table ------------------------------------------------------------------------------------


def read_table(path: Path) -> pd.DataFrame:
    """Read a labelled table: every cell as text, stripped, an absent one as the empty text.

    `.jsonl`, `.ndjson`, `.parquet` and `.pq` are what they say; everything else is text with a
    header, whose delimiter (comma, semicolon, tab, bar) and encoding are detected. Lists become
    texts joined by `;`.

    Raises:
        InputError: It cannot be read, or holds no rows.
        MissingExtraError: Parquet without pyarrow.
    """
    import pandas as pd

    readers: dict[str, Callable[[Path], Any]] = {
        ".jsonl": partial(pd.read_json, lines=True, dtype=False, convert_dates=False),
        ".ndjson": partial(pd.read_json, lines=True, dtype=False, convert_dates=False),
        ".parquet": pd.read_parquet,
        ".pq": pd.read_parquet,
    }
    read = readers.get(path.suffix.lower(), _read_delimited)
    try:
        frame = read(path)
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise InputError(f"{visible(str(path))} cannot be read: {reason}") from error
    except (ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{visible(str(path))} cannot be read as a table: {reason}") from error
    if frame.empty:
        raise InputError(f"{visible(str(path))} holds no rows below its header")
    twice = [name for name, count in Counter(frame.columns).items() if count > 1]
    if twice:
        raise InputError(f"{visible(str(path))} has two columns named '{visible(str(twice[0]))}'")
    return pd.DataFrame({str(name).strip(): _as_text(frame[name]) for name in frame.columns})


def _read_delimited(path: Path) -> pd.DataFrame:
    import io

    import pandas as pd

    _, text = read_file(path, InputError)
    # Excel's own first line that names the delimiter.
    named = re.match(r"sep=([,;\t|])\n", text, re.IGNORECASE)
    text = text[named.end() :] if named else text
    header = text.lstrip("\n").split("\n", 1)[0]
    widths = {d: len(next(csv.reader([header], delimiter=d), [])) for d in _DELIMITERS}
    return pd.read_csv(
        io.StringIO(text),
        sep=named[1] if named else max(widths, key=widths.__getitem__),
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        index_col=False,
    )


def _as_text(column: pd.Series) -> pd.Series:
    """Return a column as stripped texts; whole numbers beside gaps do not become `1.0`."""
    import pandas as pd

    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")

    def text(cell: object) -> str:
        if isinstance(cell, (list, tuple)) or type(cell).__name__ == "ndarray":
            return ";".join(str(part) for part in cell)  # type: ignore[attr-defined]
        if isinstance(cell, dict):
            return json.dumps(cell)
        return "" if cell is None or cell is pd.NA or cell != cell else str(cell).strip()

    return column.astype(object).map(text)


# --- the join -------------------------------------------------------------------------------------


def find_truth(
    inputs: Inputs, table: Path | None, labels: Sequence[Label] | None, options: TruthOptions
) -> Truth:
    """List images and give each its truth.

    Args:
        inputs: The images.
        table: The labelled table; None takes the folders' names.
        labels: As in `join_table`.
        options: How.

    Raises:
        UsageError: As from `Discovery` and `join_table`.
    """
    if table is not None and not table.is_file():
        raise InputError(f"no such file: {visible(str(table))}, the table of labels")
    refs = list(Discovery(inputs.paths, inputs.discovery, is_image=is_candidate))
    roots = [path for path in inputs.paths if os.path.isdir(path)]
    if table is None:
        return truth_of_folders(refs, roots, labels, options)
    return join_table(refs, roots, table, labels, options)


def join_table(
    refs: Sequence[ImageRef],
    roots: Sequence[str],
    table: Path,
    labels: Sequence[Label] | None,
    options: TruthOptions,
) -> Truth:
    """Join images to the rows of a table.

    Args:
        refs: The images.
        roots: The folders that the user named, to which paths in the table may be relative.
        table: The labelled table.
        labels: The labels; None takes the class names, else what truth values are mapped to, else
            the truth values themselves.
        options: How.

    Raises:
        UsageError: A column, pattern, map or label that is not there, or nothing joins.
    """
    frame = read_table(table)
    images = _Images(refs, roots)
    notes: list[str] = []
    label_column = options.label_column
    if label_column is not None:
        _check_column(label_column, frame, table, "--label-column")
    names, how = _image_names(frame, table, images, options, notes, label_column)
    label_column = label_column or _guess_label_column(frame, table, how, labels, notes)
    rows = list(zip(names, frame[label_column], strict=True))

    by_stem = max((False, True), key=lambda stem: images.count(names, by_stem=stem))
    if by_stem:
        notes.append("images are matched without their extensions")
    missing, ambiguous = [], []
    claims: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for name, value in rows:
        found = images.find(name, by_stem=by_stem)
        if len(found) == 1:
            claims[found[0]].append((name, value))
        elif found:
            several = " and ".join(refs[i].path for i in found[:2])
            ambiguous.append((name, f"names {len(found)} images: {several}"))
        else:
            missing.append(name)
    pairs = []
    for place, claimed in claims.items():
        values = list(dict.fromkeys(value for _, value in claimed))
        if len(values) > 1:
            ambiguous.append((refs[place].path, f"is {' and '.join(values[:2])} in the table"))
        else:
            pairs.append(_Found(refs[place], values[0]))
    if not pairs:
        raise InputError(_nothing_joins(table, how, names, images, ambiguous))
    report = JoinReport(
        rows_without_image=tuple(missing),
        images_without_row=tuple(refs[i].path for i in images.places if i not in claims),
        ambiguous=tuple(ambiguous),
    )
    return _settled(pairs, labels, options, report, notes)


def truth_of_folders(
    refs: Sequence[ImageRef],
    roots: Sequence[str],
    labels: Sequence[Label] | None,
    options: TruthOptions,
) -> Truth:
    """Take the name of the folder below a root, in which an image lies, for its truth.

    Args:
        refs: The images.
        roots: The folders that the user named; each holds a folder per class.
        labels: As in `join_table`.
        options: How; what concerns columns does not matter.

    Raises:
        UsageError: No image lies in a folder below a root, or a folder's name is no label.
    """
    images = _Images(refs, roots)
    pairs, loose = [], []
    for place in images.places:
        below = images.below[place]
        if len(below) > 1:
            pairs.append(_Found(refs[place], below[0]))
        else:
            loose.append(refs[place].path)
    if not pairs:
        raise InputError(
            f"no image lies in a folder of a class below {', '.join(map(visible, roots))}:"
            " --from-folders wants FOLDER/<class>/image.jpg"
        )
    report = JoinReport(without_truth=tuple(loose))
    return _settled(pairs, labels, options, report, [])


def _settled(
    pairs: Sequence[_Found],
    labels: Sequence[Label] | None,
    options: TruthOptions,
    report: JoinReport,
    notes: list[str],
) -> Truth:
    """Turn truth values into labels and choose which images take part."""
    cells = [_parts(pair.value, options.multi_label) for pair in pairs]
    seen = Counter(value for cell in cells for value in cell)
    chosen = tuple(labels) if labels else _labels_of(seen, options, notes)
    known = _value_map(seen, chosen, options)
    unknown = {value: count for value, count in seen.items() if value not in known}
    if unknown and not options.ignore_unknown:
        raise OptionError(_unknown_message(unknown, chosen))
    # With several labels to an image, none of them is an answer too.
    kept = [
        (pair, tuple(dict.fromkeys(known[value] for value in cell)))
        for pair, cell in zip(pairs, cells, strict=True)
        if (cell or options.multi_label) and all(value in known for value in cell)
    ]
    if not kept:
        raise InputError("no image is left: every row's truth is empty or no label")
    places = list(range(len(kept)))
    if options.limit is not None:
        places = places[: options.limit]
    elif options.sample is not None and options.sample < len(kept):
        places = sorted(random.Random(options.seed).sample(places, options.sample))
    empty = [p.ref.path for p, cell in zip(pairs, cells, strict=True) if not cell]
    return Truth(
        labels=chosen,
        refs=tuple(ImageRef(i, kept[place][0].ref.path) for i, place in enumerate(places)),
        values=tuple(kept[place][1] for place in places),
        report=JoinReport(
            notes=tuple(notes),
            rows_without_image=report.rows_without_image,
            images_without_row=report.images_without_row,
            ambiguous=report.ambiguous,
            unknown_values=unknown,
            without_truth=(*report.without_truth, *(() if options.multi_label else empty)),
            left_out=len(kept) - len(places),
        ),
    )


class _Images:
    """The images, findable by the ways in which a table may name them.

    Attributes:
        places: Places of the images in `refs`, each file once.
        below: Place -> the parts of its path below the folder that the user named.
    """

    def __init__(self, refs: Sequence[ImageRef], roots: Sequence[str]) -> None:
        # The longest root first, which is the nearest.
        starts = sorted((os.path.join(root, "") for root in roots), key=len, reverse=True)
        self.below: dict[int, tuple[str, ...]] = {}
        self._whole: dict[int, tuple[str, ...]] = {}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        places: dict[str, int] = {}
        for place, ref in enumerate(refs):
            places.setdefault(ref.path, place)
        for path, place in places.items():
            start = next((start for start in starts if path.startswith(start)), None)
            self._whole[place] = whole = _path_parts(os.path.abspath(path))
            self.below[place] = _path_parts(path[len(start or "") :])
            self._by_name[whole[-1]].append(place)
            self._by_stem[os.path.splitext(whole[-1])[0]].append(place)
        self.places = sorted(self.below)

    def names(self) -> list[str]:
        """What the images are called below their folders."""
        return ["/".join(self.below[place]) for place in self.places]

    def find(self, name: str, *, by_stem: bool) -> list[int]:
        """Return the places of the images that a row may mean; the closest, where there are some.

        The folders that a row names must end the image's path, or the other way round.
        """
        parts = _path_parts(name)
        if not parts:
            return []
        last = parts[-1]
        if by_stem:
            stems = dict.fromkeys((last, os.path.splitext(last)[0]))
            candidates = [place for stem in stems for place in self._by_stem.get(stem, ())]
        else:
            candidates = self._by_name.get(last, [])
        folders = parts[:-1]
        fit = {
            place: _common_end(folders, self._whole[place][:-1])
            for place in candidates
            if _ends_with(self._whole[place][:-1], folders)
            or _ends_with(folders, self.below[place][:-1])
        }
        return [place for place, common in fit.items() if common == max(fit.values())]

    def count(self, names: Iterable[str], *, by_stem: bool) -> int:
        """Return how many of the names mean exactly one image."""
        return sum(len(self.find(name, by_stem=by_stem)) == 1 for name in names)


def _path_parts(path: str) -> tuple[str, ...]:
    # Windows writes backslashes, macOS decomposes letters with accents.
    text = unicodedata.normalize("NFC", path if "/" in path else path.replace("\\", "/"))
    return tuple(part for part in text.split("/") if part not in ("", "."))


def _ends_with(whole: Sequence[str], end: Sequence[str]) -> bool:
    return not end or tuple(whole[-len(end) :]) == tuple(end)


def _common_end(left: Sequence[str], right: Sequence[str]) -> int:
    common = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        common += 1
    return common


# --- columns --------------------------------------------------------------------------------------


def _check_column(name: str, frame: pd.DataFrame, table: Path, flag: str) -> None:
    if name not in frame.columns:
        raise OptionError(
            f"{flag}: {visible(str(table))} has no column '{visible(name)}'; its columns are"
            f" {_listed(frame.columns)}"
        )


def _image_names(  # noqa: PLR0913  what a guess needs to know
    frame: pd.DataFrame,
    table: Path,
    images: _Images,
    options: TruthOptions,
    notes: list[str],
    label_column: str | None,
) -> tuple[list[str], str]:
    """Return what each row calls its image, and how that was found out."""
    if options.image_pattern is not None:
        return _filled(options.image_pattern, frame, table), options.image_pattern
    column = options.image_column
    if column is None:
        sample = frame.head(_SAMPLE_ROWS)
        others = [name for name in frame.columns if name != label_column]
        hits = {
            name: max(images.count(sample[name], by_stem=stem) for stem in (False, True))
            for name in others
        }
        best = [name for name in others if hits[name] and hits[name] == max(hits.values())]
        named = [name for name in best if name.lower() in _IMAGE_NAMES]
        best = named or best
        if not best:
            raise InputError(_no_image_column(frame, table, images))
        if len(best) > 1:
            raise OptionError(
                f"{visible(str(table))}: the columns {_listed(best)} all name the images: choose"
                " one with --image-column"
            )
        column = best[0]
        notes.append(f"images are named by the column '{column}'")
    _check_column(column, frame, table, "--image-column")
    return list(frame[column]), f"column '{column}'"


def _filled(pattern: str, frame: pd.DataFrame, table: Path) -> list[str]:
    slots = [(match[1], int(match[2] or 0)) for match in _is_slot.finditer(pattern)]
    if not slots:
        raise OptionError(
            f"--image-pattern '{visible(pattern)}' has no slot: write a column in braces, such as"
            f" {{{visible(str(frame.columns[0]))}}}"
        )
    for name, _ in slots:
        _check_column(name, frame, table, "--image-pattern")
    filled = [pattern] * len(frame)
    for name, width in slots:
        slot = re.compile(r"\{" + re.escape(name) + r"(:0?\d+d?)?\}")
        cells = [cell.zfill(width).replace("\\", r"\\") for cell in frame[name]]
        filled = [slot.sub(cell, text, 1) for text, cell in zip(filled, cells, strict=True)]
    return filled


def _guess_label_column(
    frame: pd.DataFrame,
    table: Path,
    how: str,
    labels: Sequence[Label] | None,
    notes: list[str],
) -> str:
    used = {how.removeprefix("column '").removesuffix("'"), *(m[1] for m in _is_slot.finditer(how))}
    others = [name for name in frame.columns if name not in used]
    named = [name for name in others if name.lower() in _LABEL_NAMES]
    if not named and labels:
        keys = {_key(label.name) for label in labels}
        named = [name for name in others if set(map(_key, frame[name])) <= {*keys, ""}]
    found = named or others
    if len(found) != 1:
        raise OptionError(
            f"{visible(str(table))}: which column is the truth? choose one with --label-column:"
            f" {_listed(found or frame.columns)}"
        )
    notes.append(f"the truth is the column '{found[0]}'")
    return found[0]


def _no_image_column(frame: pd.DataFrame, table: Path, images: _Images) -> str:
    row = ", ".join(f"{visible(n)}={visible(str(frame[n].iloc[0]))}" for n in frame.columns[:4])
    hint = "--image-column names the column, --image-pattern builds the name from columns"
    for name in images.names()[:50]:
        # A number in the image's name that a column holds gives the pattern away.
        for number in re.finditer(r"\d+", name):
            column = next((n for n in frame.columns if number[0] in set(frame[n])), None)
            if column is not None:
                pattern = f"{name[: number.start()]}{{{column}}}{name[number.end() :]}"
                hint = f"perhaps --image-pattern '{visible(pattern)}'"
                break
        else:
            continue
        break
    return (
        f"no column of {visible(str(table))} names the images: its first row is {row}, the first"
        f" image is {visible(images.names()[0])}; {hint}"
    )


def _nothing_joins(
    table: Path,
    how: str,
    names: Sequence[str],
    images: _Images,
    ambiguous: Sequence[tuple[str, str]],
) -> str:
    if ambiguous:
        name, why = ambiguous[0]
        return f"no row of {visible(str(table))} means one image: {visible(name)} {visible(why)}"
    return (
        f"no row of {visible(str(table))} has its image: the rows' names ({how}) are like"
        f" '{visible(names[0])}', the images' like '{visible(images.names()[0])}'; see"
        " --image-column and --image-pattern"
    )


def _listed(names: Iterable[object]) -> str:
    texts = [f"'{visible(str(name))}'" for name in names]
    more = f" and {len(texts) - 8} more" if len(texts) > 8 else ""
    return ", ".join(texts[:8]) + more


# --- truth values ---------------------------------------------------------------------------------


def _parts(cell: str, multi_label: bool) -> tuple[str, ...]:
    parts = cell.split(";") if multi_label else [cell]
    return tuple(part.strip() for part in parts if part.strip())


def _key(name: str) -> str:
    """How names are compared that people write in several ways: `No Glasses` is `no-glasses`."""
    return default_wording(unicodedata.normalize("NFC", name)).casefold()


def _labels_of(values: Iterable[str], options: TruthOptions, notes: list[str]) -> tuple[Label, ...]:
    """Return the labels of a truth for which the user named none."""
    if options.class_names:
        return options.class_names
    targets = list(dict.fromkeys(label for _, label in options.mapping))
    mapped = {value for value, _ in options.mapping}
    rest = sorted((value for value in values if value not in mapped), key=name_order)
    names = list(dict.fromkeys([*targets, *(() if options.ignore_unknown and targets else rest)]))
    numbers = [name for name in names if re.fullmatch(r"[+-]?\d+(\.\d*)?", name)]
    if numbers:
        raise OptionError(
            f"the truth values are {_listed(names)}: say what the numbers mean, with"
            f" --map {numbers[0]}=NAME,... or --class-names FILE"
        )
    notes.append(f"the labels are those of the truth: {_listed(names)}")
    return make_labels(names)


def _value_map(
    values: Iterable[str], labels: Sequence[Label], options: TruthOptions
) -> dict[str, str]:
    """Return truth value -> label name, of the values that have one."""
    exact = {label.name: label.name for label in labels}
    loose: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        loose[_key(label.name)].append(label.name)

    def by_name(text: str) -> str | None:
        alike = loose.get(_key(text), [])
        return exact.get(text) or (alike[0] if len(alike) == 1 else None)

    mapping = {}
    for value, target in options.mapping:
        name = by_name(target)
        if name is None:
            raise OptionError(
                f"--map {visible(value)}={visible(target)}: there is no label '{visible(target)}';"
                f" the labels are {_listed(exact)}"
            )
        mapping[value] = name
    for value in values:
        if value in mapping:
            continue
        place = _class_number(value)
        if options.class_names and place is not None and by_name(value) is None:
            if place >= len(options.class_names):
                continue
            name = by_name(options.class_names[place].name)
        else:
            name = by_name(value)
        if name is not None:
            mapping[value] = name
    return mapping


def _class_number(value: str) -> int | None:
    match = re.fullmatch(r"(\d{1,9})(\.0*)?", value)
    return int(match[1]) if match else None


def _unknown_message(unknown: Mapping[str, int], labels: Sequence[Label]) -> str:
    value, count = max(unknown.items(), key=lambda item: item[1])
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    rows = "1 row" if count == 1 else f"{count} rows"
    if ";" in value:
        rows += "; --multi-label takes it for several labels"
    return (
        f"the truth '{visible(value)}' ({rows}){more} is not among the labels"
        f" {_listed(label.name for label in labels)}: say which it is with"
        f" --map {visible(value)}=LABEL, or leave such rows out with --ignore-unknown"
    )


def parse_mapping(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read the values of `--map`: `0=no-glasses,1=glasses` -> (truth value, label) pairs.

    Raises:
        LabelError: A part is no pair.
        OptionError: A value is mapped twice, or to several labels.
    """
    pairs = [pair for text in texts for pair in split_pairs(text, "--map")]
    for value, count in Counter(value for value, _ in pairs).items():
        if count > 1:
            raise OptionError(f"--map: '{visible(value)}' is mapped twice")
    for value, targets in pairs:
        if len(targets) > 1:
            raise OptionError(f"--map: '{visible(value)}' is mapped to several labels")
    return tuple((value, targets[0]) for value, targets in pairs)
