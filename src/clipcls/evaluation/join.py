"""The rows of a table and the images that they mean.

A row names its image by a relative path, a name or a stem. Folders must not contradict each other:
`train/1.jpg` in the table is not the image `val/1.jpg`, whatever else they share.
"""

from __future__ import annotations

import errno
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clipcls.columns import CHANCE, CHOSEN_BY, PERSON, QUEUE
from clipcls.errors import InputError, MissingExtraError, OptionError
from clipcls.inputs.recognize import has_image_name
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.tables import check_column, check_names, delimited, json_lines
from clipcls.inputs.urls import is_archive, is_tar, key_of, member_of
from clipcls.labels import Label, default_wording
from clipcls.text import listed, original_path, read_file, visible

if TYPE_CHECKING:
    import pandas as pd

_IMAGE_NAMES = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "img", "photo"),
    *("image_path", "image_file", "image_name", "image_id", "name", "id"),
)
_SAMPLE_ROWS = 200
"""So many rows are looked at to guess a column."""

_is_slot = re.compile(r"\{([^{}:]+)(?::0?(\d+)d?)?\}")


@dataclass(frozen=True)
class Naming:
    """How the rows of a table name their images.

    Attributes:
        image_column: The column that does; None guesses.
        image_pattern: A name with `{column}` slots (`{column:05}` pads with zeros to five digits).
    """

    image_column: str | None = None
    image_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.image_column is not None and self.image_pattern is not None:
            raise OptionError(
                "--image-column and --image-pattern contradict each other: give one of them"
            )


@dataclass(frozen=True)
class Values:
    """The column that a join is for.

    Attributes:
        kind: What it holds.
        flag: The flag that names it.
        names: What it may be called, in lower case.
        column: The user's choice; None guesses.
        labels: A column of nothing but these is it too.
        chosen_too: Whether rows that somebody chose are joined too, beside those drawn at random.
        group_column: A column that says which images belong together; None for no such column.
    """

    kind: str
    flag: str
    names: Sequence[str]
    column: str | None = None
    labels: tuple[Label, ...] = ()
    chosen_too: bool = False
    group_column: str | None = None


class Found(NamedTuple):
    """An image with what a table says of it.

    Attributes:
        ref: The image.
        value: The cell of the column that is wanted.
        group: The cell of the group column.
        counts: Whether figures may be made of it: not of a row that somebody chose, where others
            were drawn at random.
    """

    ref: ImageRef
    value: str
    group: str = ""
    counts: bool = True


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
        not_by_chance: Rows that a person or the queue of a report chose, left out because others
            were drawn at random.
        left_out: Images that `--limit` or `--sample` left out.
    """

    notes: tuple[str, ...] = ()
    rows_without_image: tuple[str, ...] = ()
    images_without_row: tuple[str, ...] = ()
    ambiguous: tuple[tuple[str, str], ...] = ()
    unknown_values: Mapping[str, int] = field(default_factory=dict)
    without_truth: tuple[str, ...] = ()
    not_by_chance: int = 0
    left_out: int = 0

    def lines(self) -> Iterator[str]:
        """Yield what was guessed and what did not come together, a line each."""
        yield from map(visible, self.notes)
        groups: tuple[tuple[str, str, Sequence[str]], ...] = (
            ("row without an image", "rows without an image", self.rows_without_image),
            ("image without a row", "images without a row", self.images_without_row),
            ("ambiguous match", "ambiguous matches", [f"{n} {why}" for n, why in self.ambiguous]),
            ("image without a label", "images without a label", self.without_truth),
            (
                "label that is not ours",
                "labels that are not ours",
                [f"{value} ({count})" for value, count in self.unknown_values.items()],
            ),
        )
        for one, several, names in groups:
            if names:
                more = ", ..." if len(names) > 3 else ""
                noun = one if len(names) == 1 else several
                yield f"{len(names):,} {noun}, left out: {visible(', '.join(names[:3]))}{more}"
        if self.not_by_chance:
            yield (
                f"only the rows drawn at random count, so that the figures hold for all images:"
                f" {self.not_by_chance:,} rows that were chosen are left out"
            )
        if self.left_out:
            yield f"{self.left_out:,} labelled images left out, as asked"


def join_rows(
    refs: Sequence[ImageRef],
    roots: Sequence[str],
    table: Path,
    values: Values,
    naming: Naming,
) -> tuple[list[Found], JoinReport]:
    """Join images to the cells of one column of a table, in the table's order.

    Args:
        refs: The images.
        roots: The folders that the user named.
        table: The table.
        values: Which column is wanted.
        naming: How rows name images.

    Raises:
        UsageError: A column or pattern that is not there, or nothing joins.
    """
    frame = read_table(table)
    images = Images(refs, roots)
    notes: list[str] = []
    if values.column is not None:
        check_column(values.column, frame.columns, str(table), values.flag)
    groups = _group_cells(frame, table, values.group_column)
    names, used = _image_names(frame, table, images, naming, values, notes)
    column = values.column or _guess_column(frame, table, used, values, notes)
    by_stem = images.joins_more_by_stem(names)
    missing, ambiguous = [], []
    counts = _counting_rows(frame, notes)
    chosen: set[int] = set()
    claims: dict[int, list[int]] = defaultdict(list)
    matches = _of_own_folders(names, [images.find(n, by_stem=by_stem) for n in names], images)
    for row, (name, found, is_counted) in enumerate(zip(names, matches, counts, strict=True)):
        if not is_counted and not values.chosen_too:
            chosen.update(found)
        elif len(found) == 1:
            claims[found[0]].append(row)
        elif found:
            several = " and ".join(refs[i].path for i in found[:2])
            ambiguous.append((name, f"names {len(found)} images: {several}"))
        else:
            missing.append(name)
    pairs = []
    cells = list(frame[column])
    for place, rows in claims.items():
        different = list(dict.fromkeys(cells[row] for row in rows))
        if len(different) > 1:
            ambiguous.append((refs[place].path, f"is {' and '.join(different[:2])} in the table"))
        else:
            counted = any(counts[row] for row in rows)
            pairs.append(Found(refs[place], different[0], groups[rows[0]], counted))
    if not pairs:
        how = naming.image_pattern or f"column '{used[0]}'"
        raise InputError(_nothing_joins(table, how, names, images, ambiguous))
    if by_stem:
        notes.append("images are matched without their extensions")
    report = JoinReport(
        notes=tuple(notes),
        rows_without_image=tuple(missing),
        images_without_row=tuple(
            refs[i].path for i in images.places if i not in claims and i not in chosen
        ),
        ambiguous=tuple(ambiguous),
        not_by_chance=0 if values.chosen_too else counts.count(False),
    )
    return pairs, report


def _group_cells(frame: pd.DataFrame, table: Path, column: str | None) -> list[str]:
    """Return the group of each row, empty where there is no such column."""
    if column is None:
        return [""] * len(frame)
    check_column(column, frame.columns, str(table), "--group-column")
    return list(frame[column])


def _counting_rows(frame: pd.DataFrame, notes: list[str]) -> list[bool]:
    """Say which rows count: of a table that a report made, those of its random sample.

    Every image had the same chance to be in it (`clipcls.page.queue`), so figures of these rows
    need no weights. Images that somebody chose, because they looked wrong or hard, would bend them.
    """
    cells = set(frame[CHOSEN_BY]) if CHOSEN_BY in frame.columns else set()
    if not cells or not cells <= {CHANCE, QUEUE, PERSON}:
        return [True] * len(frame)
    if CHANCE not in cells:
        notes.append(
            "no row was drawn at random, so the figures are those of the images that were chosen,"
            " not of all images"
        )
        return [True] * len(frame)
    return [cell == CHANCE for cell in frame[CHOSEN_BY]]


def _of_own_folders(
    names: Sequence[str], matches: Sequence[list[int]], images: Images
) -> list[list[int]]:
    """Return the matches without those of rows that lie in another folder than the user named.

    A table of `train/1.jpg` and `val/1.jpg` and the folder `val`: the name of the folder is in the
    table, so that `train` is another one, not this one before it was renamed.
    """
    agree = [
        images.agrees_above(name, found[0]) if len(found) == 1 else None
        for name, found in zip(names, matches, strict=True)
    ]
    own = {images.roots[found[0]] for found, agrees in zip(matches, agree, strict=True) if agrees}
    return [
        [] if agrees is False and images.roots[found[0]] in own else found
        for found, agrees in zip(matches, agree, strict=True)
    ]


class Images:
    """The images, findable by the ways in which a table may name them.

    Attributes:
        places: Places of the images in `refs`, each file once.
        below: Place -> the parts of its path below the folder that the user named.
        roots: Place -> that folder, with a slash; None for a file that was named itself.
    """

    def __init__(self, refs: Sequence[ImageRef], roots: Sequence[str]) -> None:
        # The longest root first, which is the nearest.
        starts = sorted((os.path.join(root, "") for root in roots), key=len, reverse=True)
        self.below: dict[int, tuple[str, ...]] = {}
        self.roots: dict[int, str | None] = {}
        self._whole: dict[int, tuple[str, ...]] = {}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        places: dict[str, int] = {}
        for place, ref in enumerate(refs):
            places.setdefault(ref.path, place)
        for path, place in places.items():
            start = next((start for start in starts if path.startswith(start)), None)
            key = key_of(member_of(path)[0]) if is_tar(path) else ""
            if is_archive(path):  # which is like a folder
                member, archive = member_of(path)
                start = os.path.join(archive, "")
                path = start + member.lstrip("/")
            self.roots[place] = start
            self._whole[place] = whole = _path_parts(os.path.abspath(path))
            self.below[place] = _path_parts(path[len(start or "") :])
            self._by_name[whole[-1]].append(place)
            stems = {_without_extension(whole[-1]), key.rpartition("/")[2]} - {""}
            for stem in stems:
                self._by_stem[stem].append(place)
        self.places = sorted(self.below)

    def names(self) -> list[str]:
        """What the images are called below their folders."""
        return ["/".join(self.below[place]) for place in self.places]

    def find(self, name: str, *, by_stem: bool) -> list[int]:
        """Return the places of the images that a row may mean; the closest, where there are some.

        The folders that a row names must end the image's path, or the other way round.
        """
        # Windows writes backslashes, which elsewhere are characters of a name; our own outputs
        # write what is not UTF-8 as escapes.
        for text in dict.fromkeys((name, name.replace("\\", "/"), original_path(name))):
            found = self._closest(_path_parts(text), by_stem=by_stem)
            if found:
                return found
        return []

    def _closest(self, parts: Sequence[str], *, by_stem: bool) -> list[int]:
        if not parts:
            return []
        last, folders = parts[-1], parts[:-1]
        ways = [self._by_name.get(last, [])]
        if by_stem:
            ways += [self._by_stem.get(last, []), self._by_stem.get(_without_extension(last), [])]
        for candidates in ways:
            fit = {
                place: self._likeness(folders, place)
                for place in candidates
                if _ends_with(self._whole[place][:-1], folders)
                or _ends_with(folders, self.below[place][:-1])
            }
            if fit:
                best = max(fit.values())
                return [place for place, likeness in fit.items() if likeness == best]
        return []

    def _likeness(self, folders: Sequence[str], place: int) -> tuple[int, bool]:
        """How many folders agree and, of equals, whether the row has all of the relative path."""
        below = self.below[place][:-1]
        return _common_end(folders, self._whole[place][:-1]), tuple(folders) == below

    def agrees_above(self, name: str, place: int) -> bool | None:
        """Whether the folder that a row names above the relative path is the image's too.

        None when the row names no such folder.
        """
        folders = _path_parts(name.replace("\\", "/"))[:-1]
        below = self.below[place][:-1]
        if len(folders) <= len(below):
            return None
        return _common_end(folders, self._whole[place][:-1]) > len(below)

    def count(self, names: Iterable[str], *, by_stem: bool, several: bool = False) -> int:
        """Return how many of the names mean exactly one image, or one and more."""
        found = (len(self.find(name, by_stem=by_stem)) for name in names)
        return sum(number == 1 or (several and number > 1) for number in found)

    def joins_more_by_stem(self, names: Sequence[str]) -> bool:
        """Whether more of the names mean an image, or else several, without extensions."""
        for several in (False, True):
            whole, stems = (self.count(names, by_stem=s, several=several) for s in (False, True))
            if whole or stems:
                return stems > whole
        return False


def _path_parts(path: str) -> tuple[str, ...]:
    # macOS decomposes letters with accents.
    text = unicodedata.normalize("NFC", path.replace(os.sep, "/"))
    return tuple(part for part in text.split("/") if part not in ("", "."))


def _without_extension(name: str) -> str:
    """Return the stem; `.5` is no extension, so that the row `1.5` is not the image `1.jpg`."""
    stem, extension = os.path.splitext(name)
    return name if extension[1:].isdigit() else stem


def _ends_with(whole: Sequence[str], end: Sequence[str]) -> bool:
    return not end or tuple(whole[-len(end) :]) == tuple(end)


def _common_end(left: Sequence[str], right: Sequence[str]) -> int:
    common = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        common += 1
    return common


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

    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": pd.read_parquet,
        ".pq": pd.read_parquet,
    }
    read = readers.get(path.suffix.lower(), _read_delimited)
    try:
        frame = read(path)
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    except OSError as error:
        missing = os.strerror(errno.ENOENT) if isinstance(error, FileNotFoundError) else ""
        reason = error.strerror or missing or " ".join(str(error).split())
        raise InputError(f"{visible(str(path))} cannot be read: {reason}") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{visible(str(path))} cannot be read as a table: {reason}") from error
    # pandas writes an index beside the columns; one with a name is a column of the user's.
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    if frame.empty:
        raise InputError(f"{visible(str(path))} holds no rows below its header")
    names = [str(name).strip() for name in frame.columns]
    check_names(names, str(path))
    return pd.DataFrame({n: _as_text(frame[c]) for n, c in zip(names, frame.columns, strict=True)})


def _read_delimited(path: Path) -> pd.DataFrame:
    import pandas as pd

    name, text = read_file(path, InputError)
    columns, rows = delimited(text, name)
    return pd.DataFrame(list(rows), columns=columns, dtype=object)


def _read_json_lines(path: Path) -> pd.DataFrame:
    import pandas as pd

    name, text = read_file(path, InputError)
    # Objects, because numbers beside gaps would become floats.
    return pd.DataFrame(list(json_lines(text, name)), dtype=object)


def _as_text(column: pd.Series) -> pd.Series:
    """Return a column as stripped texts; whole numbers beside gaps do not become `1.0`."""
    import pandas as pd

    cells = column.astype(object)
    whole = all(cell.is_integer() for cell in cells if isinstance(cell, float) and cell == cell)

    def text(cell: object) -> str:
        if isinstance(cell, str):
            return cell.strip()
        if isinstance(cell, (list, tuple)) or type(cell).__name__ == "ndarray":
            return ";".join(str(part) for part in cell)  # type: ignore[attr-defined]
        if isinstance(cell, dict):
            return json.dumps(cell)
        if cell is None or cell is pd.NA or cell != cell:
            return ""
        return str(int(cell) if whole and isinstance(cell, float) else cell).strip()

    return cells.map(text)


def name_key(name: str) -> str:
    """How names are compared that people write in several ways: `No Glasses` is `no-glasses`."""
    return default_wording(unicodedata.normalize("NFC", name)).casefold()


# --- columns --------------------------------------------------------------------------------------


def _image_names(
    frame: pd.DataFrame,
    table: Path,
    images: Images,
    naming: Naming,
    values: Values,
    notes: list[str],
) -> tuple[list[str], list[str]]:
    """Return what each row calls its image, and the columns that say so."""
    if naming.image_pattern is not None:
        return _filled(naming.image_pattern, frame, table)
    column = naming.image_column
    if column is None:
        sample = frame.iloc[:: max(1, len(frame) // _SAMPLE_ROWS)]
        # Where no row means one image, some may mean several, which is another mistake.
        best = _naming_columns(sample, images, values) or _naming_columns(
            sample, images, values, several=True
        )
        if not best:
            raise InputError(_no_image_column(frame, table, images))
        if len(best) > 1:
            raise OptionError(
                f"{visible(str(table))}: the columns {listed(best)} all name the images: choose"
                " one with --image-column"
            )
        column = best[0]
        notes.append(f"images are named by the column '{column}'")
    check_column(column, frame.columns, str(table), "--image-column")
    return list(frame[column]), [column]


def _naming_columns(
    sample: pd.DataFrame, images: Images, values: Values, *, several: bool = False
) -> list[str]:
    """Return the columns that are as likely as each other to name the images."""
    by_name, by_stem = (
        {
            name: images.count(sample[name], by_stem=stem, several=several)
            for name in sample.columns
            if name != values.column
        }
        for stem in (False, True)
    )
    # `cat` may be the truth of x.jpg, and by chance the stem of another image too.
    for name in _rather_values(sample, values):
        if not by_name.get(name):
            by_stem[name] = 0
    most = max([*by_name.values(), *by_stem.values()], default=0)
    best = [name for name in by_name if most and 2 * max(by_name[name], by_stem[name]) > most]
    # A column that is called so, then one that has whole names, is rather meant.
    for preferred in (lambda name: name.lower() in _IMAGE_NAMES, by_name.__getitem__):
        best = [name for name in best if preferred(name)] or best
    return best


def _rather_values(sample: pd.DataFrame, values: Values) -> list[str]:
    """Return the columns that hold what the join is for, as far as the others tell.

    One is called so beside one that is called like names of images, or is the only one that does
    not hold such names.
    """
    names = list(sample.columns)
    if any(name.lower() in _IMAGE_NAMES for name in names):
        called = [name for name in names if name.lower() in values.names]
    else:
        called = []
    others = [name for name in names if not all(map(has_image_name, sample[name]))]
    return called + (others if len(others) == 1 < len(names) else [])


def _filled(pattern: str, frame: pd.DataFrame, table: Path) -> tuple[list[str], list[str]]:
    slots = [(match[1], int(match[2] or 0)) for match in _is_slot.finditer(pattern)]
    if not slots:
        raise OptionError(
            f"--image-pattern '{visible(pattern)}' has no slot: write a column in braces, such as"
            f" {{{visible(str(frame.columns[0]))}}}"
        )
    for name, _ in slots:
        check_column(name, frame.columns, str(table), "--image-pattern")
    # All at once, so that braces and backslashes in a cell are text.
    template = _is_slot.sub("%s", pattern.replace("%", "%%"))
    columns = [[cell.zfill(width) for cell in frame[name]] for name, width in slots]
    filled = [template % cells for cells in zip(*columns, strict=True)]
    return filled, [name for name, _ in slots]


def _guess_column(
    frame: pd.DataFrame, table: Path, used: Sequence[str], values: Values, notes: list[str]
) -> str:
    others = [name for name in frame.columns if name not in (*used, values.group_column)]
    named = [name for name in others if name.lower() in values.names]
    if not named and values.labels:
        keys = {name_key(label.name) for label in values.labels}
        cells = {name: set(map(name_key, frame[name])) - {""} for name in others}
        named = [name for name in others if cells[name] and cells[name] <= keys]
    found = named or others
    if len(found) != 1:
        raise OptionError(
            f"{visible(str(table))}: which column is the {values.kind}? choose one with"
            f" {values.flag}: {listed(found or frame.columns)}"
        )
    notes.append(f"the {values.kind} is the column '{found[0]}'")
    return found[0]


def _no_image_column(frame: pd.DataFrame, table: Path, images: Images) -> str:
    row = ", ".join(f"{visible(n)}={visible(str(frame[n].iloc[0]))}" for n in frame.columns[:4])
    hint = "--image-column names the column, --image-pattern builds the name from columns"
    # A number in an image's name that a column holds gives the pattern away.
    numbers = ((n, number) for n in images.names()[:50] for number in re.finditer(r"\d+", n))
    cells = {name: set(frame[name]) for name in frame.columns}
    for name, number in numbers:
        column = next((column for column in cells if number[0] in cells[column]), None)
        if column is not None:
            pattern = f"{name[: number.start()]}{{{column}}}{name[number.end() :]}"
            hint = f"perhaps --image-pattern '{visible(pattern)}'"
            break
    return (
        f"no column of {visible(str(table))} names the images: its first row is {row}, the first"
        f" image is {visible(images.names()[0])}; {hint}"
    )


def _nothing_joins(
    table: Path,
    how: str,
    names: Sequence[str],
    images: Images,
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
