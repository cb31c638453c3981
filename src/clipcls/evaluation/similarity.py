"""The cosine similarity of each text with each image, as a table.

Shapes: N images, T texts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipcls.classifier import Classifier
from clipcls.errors import OptionError
from clipcls.evaluation.join import Naming, Values, join_rows
from clipcls.inputs.refs import ImageRef
from clipcls.labels import Label
from clipcls.models.names import ModelSpec
from clipcls.options import DecodeOptions, RuntimeOptions
from clipcls.records import Failure, Record
from clipcls.scoring import Float32, score
from clipcls.text import content_lines, is_writable, printable_path, read_file

if TYPE_CHECKING:
    from clipcls.models.base import Encoder

TEXT_COLUMNS = ("text", "caption", "description", "prompt")
"""What the column of texts in a table of pairs may be called."""
BEFORE, AFTER = "path", "error"
"""The columns of the CSV around those of the texts."""


# --- texts ----------------------------------------------------------------------------------------


def read_texts(path: Path) -> list[str]:
    """Return the lines of a .txt file; blank ones and those that begin with `#` do not count.

    Raises:
        OptionError: It cannot be read, is a table, or holds no texts.
    """
    if path.suffix.lower() in (".csv", ".tsv", ".json"):
        raise OptionError(
            f"{path}: --texts reads a .txt file, one text per line: give a table of files and texts"
            " with --pairs, labels with --labels-file"
        )
    name, content = read_file(path, OptionError)
    texts = [line for _, line in content_lines(content, name)]
    if not texts:
        raise OptionError(f"{name}: the file holds no texts: write one per line, or give --text")
    return texts


def read_pairs(
    table: Path,
    refs: Sequence[ImageRef],
    roots: Sequence[str],
    naming: Naming,
    column: str | None = None,
) -> list[str]:
    """Return the text that a table gives to each image.

    Args:
        table: A table of images and texts; rows without an image do not count.
        refs: N images.
        roots: The folders that the user named.
        naming: How rows name images.
        column: The column of the texts; None guesses.

    Returns:
        N texts, in the order of the images.

    Raises:
        UsageError: A column or the row of an image is missing, or an image has two.
    """
    values = Values("text", "--text-column", TEXT_COLUMNS, column)
    pairs, report = join_rows(refs, roots, table, values, naming)
    if report.ambiguous:
        name, why = report.ambiguous[0]
        raise OptionError(f"{table}: {name} {why}: --pairs takes one text per image")
    if report.images_without_row:
        missing = report.images_without_row
        raise OptionError(
            f"{table}: no row for {len(missing)} of {len(refs)} images ({missing[0]}): add rows to"
            " the file of --pairs, or leave the images out with --exclude"
        )
    texts = {pair.ref.path: pair.value for pair in pairs}
    return [texts[ref.path] for ref in refs]


def finish_texts(texts: Sequence[str], prefix: str = "") -> tuple[str, ...]:
    """Put the prefix before each text.

    Raises:
        OptionError: A text is empty, there twice, cannot stand in a table, or has the name of
            another column.
    """
    finished: dict[str, None] = {}
    for text in texts:
        full = prefix + text
        if not text.strip():
            raise OptionError("a text is empty: write what --text, --texts or --pairs should say")
        if not is_writable(full):
            raise OptionError(
                f"the text {full!r} holds a line break, tab or other character that no table can"
                " hold: remove it (--text, --texts, --pairs, --prefix)"
            )
        if full in finished:
            raise OptionError(
                f"the text '{full}' is there twice: every text is a column of its own, remove one"
                " (--text, --texts, --pairs)"
            )
        if full in (BEFORE, AFTER):
            raise OptionError(
                f"the text '{full}' is the name of a fixed column of the output ({BEFORE},"
                f" {AFTER}): word it otherwise, or put --prefix before it"
            )
        finished[full] = None
    return tuple(finished)


# --- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """How similar N images and T texts are.

    Attributes:
        paths: N paths, as found.
        texts: T finished texts.
        matrix: (N, T) float32, cosine similarities; the row of a failed image is NaN.
        failures: The images that failed; their `index` is a row of the matrix.
        paired: Whether text i is image i's own (T = N).
    """

    paths: tuple[str, ...]
    texts: tuple[str, ...]
    matrix: Float32
    failures: tuple[Failure, ...]
    paired: bool = False

    @property
    def scored(self) -> list[int]:
        """The rows of the images that did not fail."""
        failed = {failure.index for failure in self.failures}
        return [i for i in range(len(self.paths)) if i not in failed]

    def own_is_best(self) -> int:
        """Return for how many of the scored images no text is more similar than their own."""
        best = self.matrix[self.scored].argmax(axis=1)
        return sum(int(text) == image for text, image in zip(best, self.scored, strict=True))

    def csv(self) -> bytes:
        """Return the table: a row per image, a column per text, six decimals, UTF-8 and CRLF."""
        reasons = {failure.index: printable_path(failure.reason) for failure in self.failures}
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerow([BEFORE, *self.texts, AFTER])
        for i, (path, row) in enumerate(zip(self.paths, self.matrix.tolist(), strict=True)):
            cells = [""] * len(row) if i in reasons else [f"{value:.6f}" for value in row]
            writer.writerow([printable_path(path), *cells, reasons.get(i, "")])
        return stream.getvalue().encode("utf-8")


def text_classifier(
    texts: Sequence[str],
    *,
    model: str | ModelSpec | Encoder | None = None,
    decode: DecodeOptions | None = None,
    runtime: RuntimeOptions | None = None,
) -> Classifier:
    """Return a classifier whose labels are finished texts, taken as they are; loads no model.

    Args:
        texts: T texts, as `finish_texts` returns them.
        model: As for `Classifier`, like the others.
        decode: What is taken for an image, and how it is fitted to the model.
        runtime: Device, precision, batch size, decode threads.
    """
    # Numbers for names: as a text, `note` or `a|b` is fine, as a label it is not.
    labels = [Label(f"text {number}", (text,)) for number, text in enumerate(texts, 1)]
    return Classifier(labels, model=model, templates=["<>"], decode=decode, runtime=runtime)


def compare(
    classifier: Classifier,
    refs: Sequence[ImageRef],
    *,
    paired: bool = False,
    seen: Callable[[Record], None] = lambda record: None,
) -> Similarity:
    """Compare each image with each text.

    Args:
        classifier: What `text_classifier` returned.
        refs: N images.
        paired: Whether text i is image i's own.
        seen: Told of each record as it comes.

    Raises:
        ClipclsError: The model cannot be loaded or gives no finite numbers.
    """
    warn, [first, *others] = classifier.warn, classifier.labels
    # No probability is shown here, so that of a single text need not be explained.
    only = f"'{first}' is the only label" if not others else None
    classifier.warn = lambda text: None if only and text.startswith(only) else warn(text)
    texts = tuple(classifier.prompts.flat())
    matrix = np.full((len(refs), len(texts)), np.nan, dtype=np.float32)
    failures = []
    scorer = classifier.scorer
    for record in score(classifier.embed(refs), scorer):
        seen(record)
        if isinstance(record, Failure):
            failures.append(record)
        else:
            matrix[record.index] = record.similarities
    return Similarity(tuple(ref.path for ref in refs), texts, matrix, tuple(failures), paired)
