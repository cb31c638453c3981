"""The plots of an evaluation report: numpy arrays in, matplotlib figures out.

Shapes: C classes, K confidence bins, T thresholds. Whatever is undefined (a class without examples
has no recall) is NaN in the arrays and marked in the plots; it is never drawn as 0. The figures are
made without pyplot, so that no window system is needed and none stays in memory.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text

from clipcls.evaluation.bootstrap import Figure as Share
from clipcls.outputs.base import write_file
from clipcls.records import UNKNOWN
from clipcls.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating]
Curve = tuple[str, Floats, Floats, float]

# Okabe and Ito's colours, which stay apart for every kind of colour blindness (jfly.uni-koeln.de/
# color). Their yellow is too light for lines on white.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
_COLOURS = [BLUE, VERMILLION, GREEN, ORANGE, "#56B4E9"]
_LIGHT_BLUE, _GREY = "#A6CDE8", "#BBBBBB"
_STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    # A label is data: the dollars in it are no formula.
    "text.parse_math": False,
}
_LABEL_WIDTH = 28
# More counts than this are too small to read, and so are more names than that.
_MOST_COUNTS = 20
_MOST_NAMES = 200
# Curves beyond the colours are dashed, then dotted; of more, so many of the best and of the worst.
_DASHES = ("-", "--", ":")


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib.style

    # From the defaults on, so that nobody's own matplotlibrc changes a report.
    with matplotlib.style.context(["default", _STYLE]):
        yield


def _short(label: str) -> str:
    # In columns rather than characters: a Chinese character is as wide as two Latin ones.
    text = Text(visible(label))
    text.truncate(_LABEL_WIDTH, overflow="ellipsis")
    return text.plain


def _font_size(names: int) -> float:
    return 9 if names <= 20 else 7 if names <= 60 else 6


@_styled()
def draw_confusion(matrix: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Draw how often each class was taken for which.

    Colours are shares of the row, on a scale of square roots. Up to 20 classes, the counts stand in
    the cells; above 200, the axes have no names.

    Args:
        matrix: (C, C) counts, rows truth and columns prediction; or (C, C + 1), where the last
            column counts the images that were called unknown.
        labels: The C labels, in the order of the rows.

    Returns:
        The figure; it grows with C.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    rows, columns = matrix.shape
    names = [_short(label) for label in labels] if rows <= _MOST_NAMES else []
    across = names + [UNKNOWN] * (columns - rows) if names else []
    counted = rows <= _MOST_COUNTS
    size = _font_size(rows)
    side = columns * max(0.46, min(1.0, 2.4 / rows)) if counted else rows * 1.5 * size / 72
    side = min(side if counted else max(side, 5.5), 25)
    # The room that the names take, in inches; at 45 degrees, they take less of the height.
    room = max(map(cell_len, across), default=0) * 0.6 * size / 72
    # A large figure is looked at from afar first, so title and scale grow with it.
    large = max(9.0, side)
    rest = 0.5 + large * 6 / 72
    height = side * rows / columns + room * (0.75 if counted else 1) + rest
    figure = Figure(figsize=(max(side + room + rest, 4.8), height))
    axes = figure.add_subplot()
    totals = matrix.sum(axis=1)
    shares = np.full(matrix.shape, np.nan)
    np.divide(matrix, totals[:, None], out=shares, where=totals[:, None] > 0)
    # The square root, because most confusions are small and would all look like none.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    # The size makes the cells square; a forced aspect misleads the layout, which then cuts words.
    image = axes.imshow(shares, cmap="viridis", norm=norm, aspect="auto")
    bar_place = (1 + max(0.01, 0.1 / side), 0, max(0.02, 0.15 / side), 1)
    bar = figure.colorbar(image, cax=axes.inset_axes(bar_place))
    bar.set_label("share of the class's images", fontsize=large)
    bar.ax.tick_params(labelsize=large)
    _mark_rows(figure, np.flatnonzero(totals == 0), large)
    if columns > rows:
        axes.axvline(rows - 0.5, color="white", linewidth=2)
    if counted:
        _write_counts(axes, matrix, shares)
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(across)), across, **(slanted if counted else {"rotation": 90}))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=size)
    axes.set_xlabel("prediction", fontsize=large)
    axes.set_ylabel("truth", fontsize=large)
    title = "Confusion: rows are the truth, columns the prediction"
    figure.suptitle(title, fontsize=large + 2)
    return figure


def _mark_rows(figure: Figure, empty: NDArray[np.intp], size: float) -> None:
    from matplotlib.patches import Patch

    style: dict[str, Any] = {"facecolor": "#EEEEEE", "edgecolor": _GREY, "hatch": "////"}
    for row in empty:
        figure.axes[0].axhspan(row - 0.5, row + 0.5, linewidth=0, **style)
    if empty.size:
        handle = Patch(linewidth=0, **style)
        figure.legend([handle], ["no examples"], loc="outside lower right", fontsize=size)


def _write_counts(axes: Axes, matrix: NDArray[np.int64], shares: Floats) -> None:
    digits = len(str(matrix.max(initial=0)))
    size = min(8.0, 48 / digits)
    for (row, column), share in np.ndenumerate(shares):
        if not np.isnan(share):
            colour = "white" if share < 0.4 else "black"
            count = str(matrix[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)


@_styled()
def draw_reliability(confidence: Floats, accuracy: Floats, counts: Floats, ece: float) -> Figure:
    """Draw whether predictions are right as often as their probabilities say.

    Args:
        confidence: (K,) mean probability of the prediction per bin; the bins are equally wide.
        accuracy: (K,) share of right predictions per bin, NaN where the bin is empty.
        counts: (K,) images per bin.
        ece: The expected calibration error.

    Returns:
        The figure: accuracy and gap per bin, and below it the images per bin.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.5, 6.2))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    width = 1 / len(counts)
    centres = (np.arange(len(counts)) + 0.5) * width
    upper.bar(centres, accuracy, width, color=_LIGHT_BLUE, edgecolor="white", label="accuracy")
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": VERMILLION, "hatch": "////"}
    gap = confidence - accuracy
    upper.bar(centres, gap, width, accuracy, label="gap to the mean probability", **style)
    upper.plot([0, 1], [0, 1], color="black", linestyle="--", label="perfectly calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"Reliability: expected calibration error {ece:.3f}")
    lower.bar(centres, counts, width, color=_GREY, edgecolor="white")
    lower.set(xlabel="probability of the prediction", ylabel="images")
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in (upper, lower):
        axes.grid(axis="y")
    # Outside, because the bars may be anywhere.
    handles, names = upper.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


@_styled()
def draw_precision_recall(curves: Sequence[Curve]) -> Figure:
    """Draw precision against recall, a curve for each class.

    Up to fifteen classes have a line and a name each. Of more, all are grey but the five best and
    the five worst. A class without examples has no curve; its average precision is NaN.

    Args:
        curves: Per class its label, its precision and its recall, one shape each and sorted by
            recall either way, and its average precision (AP).

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    drawn = sorted((c for c in curves if not np.isnan(c[3])), key=lambda c: c[3], reverse=True)
    half = len(_COLOURS)
    few = len(drawn) <= half * len(_DASHES)
    figure = Figure(figsize=(8.5, 5.2))
    axes = figure.add_subplot()
    for curve in [] if few else drawn[half:-half]:
        axes.plot(curve[2], curve[1], color=_GREY, linewidth=0.5, alpha=0.6)
    lines: list[Line2D] = []
    names: list[str] = []
    for place, curve in enumerate(drawn if few else drawn[:half] + drawn[-half:]):
        label, precision, recall, average = curve
        # The steps of the average precision: each recall is reached with its own precision.
        steps = "steps-pre" if recall[0] <= recall[-1] else "steps-post"
        dashes = _DASHES[place // half]
        lines += axes.plot(recall, precision, dashes, color=_COLOURS[place % half], drawstyle=steps)
        names.append(f"AP {average:.3f}  {_short(label)}")
    if not few:
        lines.insert(half, Line2D([], [], color=_GREY))
        names.insert(half, f"classes between: {len(drawn) - 2 * half}")
    missing = [_short(curve[0]) for curve in curves if np.isnan(curve[3])]
    for text in missing if len(missing) <= half else [f"{len(missing)} classes"]:
        lines.append(Line2D([], [], linestyle="none"))
        names.append(f"no examples  {text}")
    figure.legend(lines, names, loc="outside right upper")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    macro = f"{np.mean([curve[3] for curve in drawn]):.3f}" if drawn else "undefined"
    axes.set_title(f"Precision and recall: mean average precision {macro}")
    axes.grid()
    return figure


@_styled()
def draw_thresholds(
    thresholds: Floats, coverage: Floats, accuracy: Floats, beside: Sequence[str] = ()
) -> Figure:
    """Draw what a threshold on the probability keeps, and how much of that is right.

    Args:
        thresholds: (T,) thresholds, ascending.
        coverage: (T,) share of images whose prediction reaches the threshold.
        accuracy: (T,) share of right predictions among those, NaN where there are none.
        beside: The flags that turn images down too, whatever the threshold.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2))
    axes = figure.add_subplot()
    kept = f"images kept, with {' and '.join(beside)}" if beside else "images kept"
    axes.plot(thresholds, coverage, color=BLUE, label=kept)
    axes.plot(thresholds, accuracy, color=VERMILLION, linestyle="--", label="of those, right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold on the probability", ylabel="share")
    axes.set_title("Threshold: how many images it keeps, and how many of them are right")
    axes.legend(loc="lower left")
    axes.grid()
    return figure


@_styled()
def draw_classes(
    labels: Sequence[str], precision: Floats, recall: Floats, f1: Floats, support: Floats
) -> Figure:
    """Draw F1, precision and recall of each class, the best class first.

    Above 200 classes, the 100 best and the 100 worst of those with an F1 are drawn.

    Args:
        labels: The C labels.
        precision: (C,) NaN for a class that was never predicted.
        recall: (C,) NaN for a class without examples.
        f1: (C,) NaN where undefined; these classes come last.
        support: (C,) images of each class.

    Returns:
        The figure; its height grows with C.
    """
    from matplotlib.figure import Figure

    order = np.argsort(-f1, kind="stable")
    title = "Classes by F1"
    if len(order) > _MOST_NAMES:
        # Those without an F1 go first, or all of the worst could be such.
        order = order[~np.isnan(f1[order])]
        half = _MOST_NAMES // 2
        order = np.concatenate([order[:half], order[half:][-half:]])
        title = f"Classes by F1: {len(order)} of {len(f1)}, the best and the worst"
    size = _font_size(len(order))
    figure = Figure(figsize=(7.5, 1.3 + len(order) * 1.5 * size / 72))
    axes = figure.add_subplot()
    places = np.arange(len(order))
    axes.barh(places, f1[order], 0.7, color=_LIGHT_BLUE, label="F1")
    points: dict[str, Any] = {"linestyle": "none", "markersize": size / 2, "clip_on": False}
    axes.plot(precision[order], places, "o", color=BLUE, label="precision", **points)
    axes.plot(recall[order], places, "D", color=VERMILLION, label="recall", **points)
    for place, index in enumerate(order):
        gone = {
            "no examples": np.isnan(recall[index]),
            "never predicted": np.isnan(precision[index]),
        }
        note = ", ".join(text for text, holds in gone.items() if holds)
        axes.text(0.015, place, note, va="center", fontsize=size, style="italic", color="#555555")
    axes.set_yticks(places, [_short(labels[index]) for index in order], fontsize=size)
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.4, -0.6))
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [str(int(support[index])) for index in order], fontsize=size)
    right.set_ylabel("images", loc="top")
    axes.tick_params(axis="y", length=0, pad=6)
    # Where the scale below is out of sight.
    axes.tick_params(axis="x", top=len(order) > 20, labeltop=len(order) > 20)
    right.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    # As the legend's title, because a title of the figure would lie upon the legend.
    figure.legend(loc="outside upper center", ncols=3, title=title, title_fontsize=11)
    return figure


@_styled()
def draw_learning_curve(points: Sequence[tuple[int, Share]], zero_shot: float) -> Figure:
    """Draw accuracy against examples of each label, with its intervals, beside zero-shot.

    Args:
        points: (examples, accuracy), ascending.
        zero_shot: The accuracy without examples.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    counts = [count for count, _ in points]
    values, lows, highs = zip(*((p.value, p.low, p.high) for _, p in points), strict=True)
    figure = Figure(figsize=(6.5, 4.2))
    axes = figure.add_subplot()
    axes.axhline(zero_shot, color="black", linestyle="--", label="zero-shot")
    axes.fill_between(counts, lows, highs, color=_LIGHT_BLUE, alpha=0.5, linewidth=0)
    axes.plot(counts, values, "o-", color=BLUE, label="head")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="examples of each label", ylabel="accuracy on images held out")
    axes.set_title("Learning curve, with 95 % intervals")
    axes.legend(loc="lower right")
    axes.grid()
    # Of two numbers that would touch, the larger one stays.
    figure.draw_without_rendering()
    names, left = [str(count) for count in counts], np.inf
    for place in reversed(range(len(names))):
        box = axes.get_xticklabels()[place].get_window_extent()
        if box.x1 + box.height / 2 > left:
            names[place] = ""
        else:
            left = box.x0
    axes.set_xticks(counts, names)
    return figure


def figure_bytes(figure: Figure, extension: str, **options: Any) -> bytes:
    """Return a figure as the file of an extension; `options` are those of `savefig`."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # A label in a script that the font lacks has boxes for letters, which says it all.
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")
        figure.savefig(stream, format=extension.lstrip(".").lower(), **options)
    return stream.getvalue()


@_styled()
def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the file is complete or not there.

    The same figure gives the same bytes with the same matplotlib.

    Args:
        figure: The figure.
        path: The file; one that is there is replaced.

    Raises:
        OutputError: It cannot be written.
    """
    write_file(path, figure_bytes(figure, ".png", metadata={"Software": None}))
