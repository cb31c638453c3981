"""Which image is what, by a person's word: from a labelled table, or from a folder per label."""

from __future__ import annotations

import os
import random
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clipcls.columns import TRUTH
from clipcls.errors import InputError, LabelError, OptionError
from clipcls.evaluation.join import (
    Found,
    Images,
    JoinReport,
    Naming,
    Values,
    join_rows,
    name_key,
)
from clipcls.inputs.patterns import name_order
from clipcls.inputs.recognize import is_candidate
from clipcls.inputs.refs import ImageRef
from clipcls.inputs.walk import Discovery
from clipcls.labels import Label, make_labels, split_pairs
from clipcls.question import Inputs
from clipcls.records import UNKNOWN
from clipcls.text import listed, visible

LABEL_NAMES = (
    *("label", "labels", "class", "target", "truth", "category", "class_name", "true_label"),
    *("classes", "tags", "y"),
)

_OTHER_AS = "take such images for what they are, of none of the labels, with --other-as unknown"


@dataclass(frozen=True)
class TruthOptions:
    """How a table is read and joined.

    Attributes:
        naming: How rows name images.
        label_column: The column of the truth; None guesses.
        mapping: (truth value, label name) pairs.
        class_names: The labels that the truth values 0, 1, ... stand for.
        ignore_unknown: Whether rows are left out whose truth is no label.
        unknown: Whether `unknown` is the truth of images of none of the labels.
        other_as_unknown: Whether every truth that is no label means that; implies `unknown`.
        multi_label: Whether a cell holds any number of labels, separated by `;`.
        to_learn: Whether the images are to be learned from: then those that somebody chose take
            part too, and a truth value that is no label becomes one; `unknown` is left out.
        only_labels: Whether every image must be of a label, so that none is `unknown`.
        group_column: A column that says which images belong together.
        limit: Only the first so many.
        sample: A random choice of so many.
        seed: Of that choice.
    """

    naming: Naming = field(default_factory=Naming)
    label_column: str | None = None
    mapping: tuple[tuple[str, str], ...] = ()
    class_names: tuple[Label, ...] = ()
    ignore_unknown: bool = False
    unknown: bool = False
    other_as_unknown: bool = False
    multi_label: bool = False
    to_learn: bool = False
    only_labels: bool = False
    group_column: str | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for flag, number in (("--limit", self.limit), ("--sample", self.sample)):
            if number is not None and number < 1:
                raise OptionError(f"{flag} is {number}: give a whole number of 1 or more")
        for flag, value in (
            ("--ignore-unknown", self.ignore_unknown),
            ("--multi-label", self.multi_label),
        ):
            if value and self.other_as_unknown:
                raise OptionError(f"--other-as unknown and {flag} contradict each other: give one")
        if self.limit is not None and self.sample is not None:
            raise OptionError("--limit and --sample contradict each other: give one of them")

    @property
    def takes_unknown(self) -> bool:
        """Whether the truth of an image can be that it is of none of the labels."""
        return not (self.multi_label or self.to_learn or self.only_labels)


@dataclass(frozen=True)
class Truth:
    """Images with what a person says they show, in the order of the table.

    Attributes:
        labels: The C labels.
        refs: The N images.
        values: N tuples of label names: one each or, with several labels to an image, any number;
            `unknown` where the image is of none of them.
        report: What did not come together.
        groups: N cells of the group column, empty where there is none.
        counts: N: whether figures may be made of it, as in `Found`.
    """

    labels: tuple[Label, ...]
    refs: tuple[ImageRef, ...]
    values: tuple[tuple[str, ...], ...]
    report: JoinReport
    groups: tuple[str, ...] = ()
    counts: tuple[bool, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels."""
        return tuple(label.name for label in self.labels)


# --- the join -------------------------------------------------------------------------------------


def find_truth(
    inputs: Inputs, table: Path | None, labels: Sequence[Label] | None, options: TruthOptions
) -> Truth:
    """List images and give each its truth.

    Args:
        inputs: The images.
        table: The labelled table; None takes the folders' names.
        labels: As in `join_truth`.
        options: How.

    Raises:
        UsageError: As from `Discovery` and `join_truth`.
    """
    # A pipe will do; of a folder, reading says that it is one.
    if table is not None and not table.exists():
        raise InputError(f"no such file: {visible(str(table))}, the table of labels")
    refs = list(Discovery(inputs.paths, inputs.discovery, is_image=is_candidate))
    roots = [path for path in inputs.paths if os.path.isdir(path)]
    return join_truth(refs, roots, table, labels, options)


def join_truth(
    refs: Sequence[ImageRef],
    roots: Sequence[str],
    table: Path | None,
    labels: Sequence[Label] | None,
    options: TruthOptions,
) -> Truth:
    """Join images to the rows of a table, or to the folders that they lie in.

    Args:
        refs: The images.
        roots: The folders that the user named, to which paths in the table may be relative.
        table: The labelled table; None takes the name of the folder below a root for the truth.
        labels: The labels; None takes the class names, else what truth values are mapped to, else
            the truth values themselves.
        options: How.

    Raises:
        UsageError: A column, pattern, map or label that is not there, or nothing joins.
    """
    if table is None and options.group_column is not None:
        raise OptionError("--group-column is a column of a table: give one, without --from-folders")
    if table is None:
        return _truth_of_folders(refs, roots, labels, options)
    values = Values(
        *("truth", "--label-column", LABEL_NAMES, options.label_column, tuple(labels or ())),
        chosen_too=options.to_learn,
        group_column=options.group_column,
    )
    pairs, report = join_rows(refs, roots, table, values, options.naming)
    return _settled(pairs, labels, options, report)


def _truth_of_folders(
    refs: Sequence[ImageRef],
    roots: Sequence[str],
    labels: Sequence[Label] | None,
    options: TruthOptions,
) -> Truth:
    images = Images(refs, roots)
    pairs, loose = [], []
    for place in images.places:
        below = images.below[place]
        if images.roots[place] is not None and len(below) > 1:
            pairs.append(Found(refs[place], below[0]))
        else:
            loose.append(refs[place].path)
    if not pairs:
        where = f"below {', '.join(map(visible, roots))}" if roots else "and no folder is named"
        raise InputError(
            f"no image lies in a folder of a class {where}: --from-folders wants a FOLDER with"
            " FOLDER/<class>/image.jpg"
        )
    report = JoinReport(without_truth=tuple(loose))
    return _settled(pairs, labels, options, report)


def _settled(
    pairs: Sequence[Found],
    labels: Sequence[Label] | None,
    options: TruthOptions,
    report: JoinReport,
) -> Truth:
    """Turn truth values into labels and choose which images take part."""
    cells = [_parts(pair.value, options.multi_label) for pair in pairs]
    seen = Counter(value for cell in cells for value in cell)
    options = replace(options, mapping=_with_numbers(options.mapping, seen))
    notes = list(report.notes)
    chosen = tuple(labels) if labels else _labels_of(seen, options, notes)
    known = _value_map(seen, chosen, options)
    if options.unknown or options.other_as_unknown:
        known |= _none_of(chosen, seen.keys() - known.keys(), options)
    unknown = {value: count for value, count in seen.items() if value not in known}
    if options.to_learn and not options.ignore_unknown:
        more = sorted((value for value in unknown if value.lower() != UNKNOWN), key=name_order)
        if more:
            _check_no_numbers(more)
            notes.append(f"without prompts, learned from examples alone: {listed(more)}")
            chosen = make_labels([*chosen, *more])
            known |= {value: value for value in more}
        unknown = {value: unknown[value] for value in unknown if value not in known}
        notes += [
            f"'{visible(value)}' stands for none of the labels, so it is not learned:"
            f" --labels ...,NAME --map {visible(value)}=NAME makes it a label"
            for value in unknown
        ]
    elif unknown and not options.ignore_unknown:
        raise OptionError(_unknown_message(unknown, chosen, options))
    # With several labels to an image, none of them is an answer too.
    kept = [
        (pair, tuple(dict.fromkeys(known[value] for value in cell)))
        for pair, cell in zip(pairs, cells, strict=True)
        if (cell or options.multi_label) and all(value in known for value in cell)
    ]
    if TRUTH in (label.name for label in chosen):
        raise LabelError(f"the label '{TRUTH}' is a column of predictions.csv: rename it")
    own = {label.name for label in chosen}
    if not any(options.multi_label or own.issuperset(values) for _, values in kept):
        raise InputError(_nothing_left(seen, len(kept), chosen, options))
    places = list(range(len(kept)))
    if options.limit is not None:
        places = places[: options.limit]
    elif options.sample is not None and options.sample < len(kept):
        places = sorted(random.Random(options.seed).sample(places, options.sample))
    empty = [p.ref.path for p, cell in zip(pairs, cells, strict=True) if not cell]
    return Truth(
        labels=chosen,
        refs=tuple(replace(kept[place][0].ref, index=i) for i, place in enumerate(places)),
        values=tuple(kept[place][1] for place in places),
        report=replace(
            report,
            notes=tuple(notes),
            unknown_values=unknown,
            without_truth=(*report.without_truth, *(() if options.multi_label else empty)),
            left_out=len(kept) - len(places),
        ),
        groups=tuple(kept[place][0].group for place in places),
        counts=tuple(kept[place][0].counts for place in places),
    )


# --- truth values ---------------------------------------------------------------------------------


def _parts(cell: str, multi_label: bool) -> tuple[str, ...]:
    parts = cell.split(";") if multi_label else [cell]
    return tuple(part.strip() for part in parts if part.strip())


def _labels_of(values: Iterable[str], options: TruthOptions, notes: list[str]) -> tuple[Label, ...]:
    """Return the labels of a truth for which the user named none."""
    if options.class_names:
        return options.class_names
    targets = list(dict.fromkeys(label for _, label in options.mapping))
    if options.unknown or options.other_as_unknown:
        targets = [label for label in targets if label.lower() != UNKNOWN]
    if options.other_as_unknown and not targets:
        raise OptionError("--other-as unknown needs the labels that are meant: give --labels")
    mapped = {value for value, _ in options.mapping}
    # `unknown` stands for none of the labels, so it is one only where the user says so.
    others = (value for value in values if value not in mapped and value.lower() != UNKNOWN)
    rest = sorted(others, key=name_order)
    only_targets = targets and (options.ignore_unknown or options.other_as_unknown)
    names = list(dict.fromkeys([*targets, *(() if only_targets else rest)]))
    _check_no_numbers(names)
    notes.append(f"the labels are those of the truth: {listed(names)}")
    if not options.multi_label and any(";" in name for name in names):
        notes.append("a cell with ; is one label here; --multi-label takes it for several")
    return make_labels(names)


def _check_no_numbers(names: Sequence[str]) -> None:
    """Refuse to call labels by numbers."""
    numbers = [name for name in names if re.fullmatch(r"[+-]?\d+(\.\d*)?", name)]
    if numbers:
        raise OptionError(
            f"the truth values are {listed(names)}: say what the numbers mean, with"
            f" --map {numbers[0]}=NAME,... or --class-names FILE"
        )


def _none_of(
    labels: Sequence[Label], values: Iterable[str], options: TruthOptions
) -> dict[str, str]:
    """Return truth value -> `unknown` of those, among the ones that are no label, that mean it."""
    if any(label.name == UNKNOWN for label in labels):
        raise LabelError(
            f"the label '{UNKNOWN}' could not be told from an image of none of the labels:"
            " rename it"
        )
    return {
        value: UNKNOWN for value in values if options.other_as_unknown or value.lower() == UNKNOWN
    }


def _value_map(
    values: Iterable[str], labels: Sequence[Label], options: TruthOptions
) -> dict[str, str]:
    """Return truth value -> label name, of the values that have one."""
    exact = {label.name: label.name for label in labels}
    loose: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        loose[name_key(label.name)].append(label.name)

    def by_name(text: str) -> str | None:
        alike = loose.get(name_key(text), [])
        return exact.get(text) or (alike[0] if len(alike) == 1 else None)

    mapping = {}
    for value, target in options.mapping:
        name = by_name(target)
        if name is None and options.takes_unknown and target.lower() == UNKNOWN:
            name = UNKNOWN
        if name is None:
            raise OptionError(
                f"--map {visible(value)}={visible(target)}: there is no label '{visible(target)}';"
                f" the labels are {listed(exact)}"
            )
        mapping[value] = name
    numbered: dict[int | None, str] = dict(enumerate(c.name for c in options.class_names))
    for value in values:
        name, of_number = by_name(value), numbered.get(_whole_number(value))
        if name is None and of_number is not None:
            name = by_name(of_number)
        if name is not None and value not in mapping:
            mapping[value] = name
    return mapping


def _with_numbers(
    mapping: tuple[tuple[str, str], ...], values: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """Add the values that are a mapped number otherwise written: tables may hold `1.0` for `1`."""
    given = dict(mapping)
    numbers = {_whole_number(value): label for value, label in mapping}
    alike = {value: _whole_number(value) for value in values if value not in given}
    more = [(v, numbers[n]) for v, n in alike.items() if n is not None and n in numbers]
    return (*mapping, *more)


def _whole_number(value: str) -> int | None:
    match = re.fullmatch(r"([+-]?\d{1,9})(\.0*)?", value)
    return int(match[1]) if match else None


def _unknown_message(
    unknown: Mapping[str, int], labels: Sequence[Label], options: TruthOptions
) -> str:
    value, count = max(unknown.items(), key=lambda item: item[1])
    more = f" and {len(unknown) - 1} more are" if len(unknown) > 1 else " is"
    rows = "1 row" if count == 1 else f"{count} rows"
    if ";" in value:
        rows += "; --multi-label takes it for several labels"
    other_as = f", {_OTHER_AS}" if options.takes_unknown else ""
    number, names = _whole_number(value), len(options.class_names)
    short = names and number is not None and not 0 <= number < names
    counted = f" (--class-names has {names}, for the numbers 0 to {names - 1})" if short else ""
    return (
        f"the truth '{visible(value)}' ({rows}){more} not among the labels"
        f" {listed(label.name for label in labels)}{counted}: say which it is with"
        f" --map {shlex.quote(visible(value) + '=LABEL')}{other_as}, or leave such rows out with"
        " --ignore-unknown"
    )


def _nothing_left(
    seen: Iterable[str], unknown: int, labels: Sequence[Label], options: TruthOptions
) -> str:
    """Return what is there, where no image of a label is; of none of them are so many."""
    ordered = sorted(seen, key=name_order)
    values, names = listed(ordered), listed(label.name for label in labels)
    if not ordered:
        return "no image is left: every row's truth is empty (--label-column names another column)"
    if unknown:
        return (
            f"no image is of a label: the truth of all {unknown} is {values}, and the labels are"
            f" {names}: figures of the unknown need images of the labels beside them"
        )
    other_as = f", or {_OTHER_AS}" if options.takes_unknown else ""
    return (
        f"no image is left: the truth is {values}, and the labels are {names}: say which is which"
        f" with --map VALUE=LABEL{other_as}"
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
