from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from clipcls.errors import OutputError
from clipcls.evaluation.bootstrap import Figure as Share
from clipcls.evaluation.plots import (
    draw_classes,
    draw_confusion,
    draw_learning_curve,
    draw_precision_recall,
    draw_reliability,
    draw_thresholds,
    save_figure,
)

NAN = float("nan")
# The widest letter there is, more often than any plot has room for.
LONG = "W" * 40
Curve = tuple[str, NDArray[np.float64], NDArray[np.float64], float]


def names(count: int) -> list[str]:
    return [LONG if i % 3 == 1 else f"class {i}" for i in range(count)]


def confusion(count: int, extra: int = 0) -> Figure:
    matrix = np.ones((count, count + extra), np.int64)
    matrix[np.arange(count), np.arange(count)] = 7
    return draw_confusion(matrix, names(count))


def classes(count: int, **changed: Any) -> Figure:
    values: dict[str, Any] = {
        "precision": np.linspace(0.1, 0.9, count),
        "recall": np.linspace(0.2, 0.8, count),
        "f1": np.linspace(0.15, 0.85, count),
        "support": np.arange(count) + 1,
    }
    return draw_classes(changed.pop("labels", names(count)), **values | changed)


def curve(label: str, average: float) -> Curve:
    return label, np.array([1.0, 0.5, 0.2]), np.array([0.0, 0.5, 1.0]), average


def reliability() -> Figure:
    confidence, accuracy = np.array([NAN, 0.7]), np.array([NAN, 0.4])
    return draw_reliability(confidence, accuracy, np.array([0, 9]), 0.3)


def thresholds() -> Figure:
    accuracy = np.array([0.6, 0.9, NAN])
    return draw_thresholds(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]), accuracy)


def learning(counts: Sequence[int]) -> Figure:
    return draw_learning_curve([(n, Share(0.5, 0.4, 0.6, "bootstrap")) for n in counts], 0.45)


ALL = {
    "confusion": lambda: confusion(4, extra=1),
    "reliability": reliability,
    "precision and recall": lambda: draw_precision_recall([curve(LONG, 0.5)]),
    "thresholds": thresholds,
    "classes": lambda: classes(4),
    "learning curve": lambda: learning([1, 2, 4, 8, 9]),
}
each = pytest.mark.parametrize("draw", ALL.values(), ids=list(ALL))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def cells(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def tick_labels(figure: Figure, axis: str) -> list[str]:
    labels = figure.axes[0].get_yticklabels() if axis == "y" else figure.axes[0].get_xticklabels()
    return [label.get_text() for label in labels]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# -- every figure -----------------------------------------------------------------------------


def assert_whole(figure: Figure) -> None:
    """Nothing reaches beyond the figure's edge."""
    figure.draw_without_rendering()
    extent = figure.get_tightbbox()
    assert min(extent.x0, extent.y0) >= 0
    assert extent.x1 <= figure.get_figwidth()
    assert extent.y1 <= figure.get_figheight()


@each
def test_nothing_is_cut_off(draw: Any) -> None:
    assert_whole(draw())


@each
def test_the_same_input_gives_the_same_bytes(draw: Any, tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        save_figure(draw(), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    save_figure(classes(3), tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        save_figure(classes(3), tmp_path / "own.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_any_label_is_drawn_as_it_is(tmp_path: Path) -> None:
    labels = ["$x$", "$x^2", "a_b\\frac", "犬の写真", "🐕", "_private", "\udcff"]
    figures = [
        draw_confusion(np.eye(7, dtype=np.int64), labels),
        classes(7, labels=labels),
        draw_precision_recall([curve(label, 0.5) for label in labels]),
    ]
    for figure in figures:
        # pytest turns warnings into errors, so that a missing glyph would be one.
        save_figure(figure, tmp_path / "plot.png")
        for label in [*labels[:-1], "\\udcff"]:
            assert any(text.endswith(label) for text in texts(figure))
        drawn = [text for text in figure.findobj(Text) if isinstance(text, Text)]
        assert not any(text.get_parse_math() for text in drawn)


def test_wide_characters_count_twice_when_a_label_is_shortened() -> None:
    figure = classes(2, labels=["犬" * 28, "d" * 28])
    wide, narrow = sorted(tick_labels(figure, "y"), reverse=True)
    assert narrow == "d" * 28
    assert wide.startswith("犬" * 13)
    assert len(wide) <= 15
    assert wide.endswith("…")


def test_drawing_needs_no_window_system() -> None:
    program = "import sys, clipcls.evaluation.plots as p; assert 'matplotlib' not in sys.modules;"
    program += "p.draw_confusion(p.np.eye(2), 'ab'); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


# -- confusion --------------------------------------------------------------------------------


def test_counts_are_written_up_to_twenty_classes() -> None:
    assert sorted(cells(confusion(20))) == ["1"] * 380 + ["7"] * 20
    assert cells(confusion(21)) == []


def test_colours_are_shares_of_the_row() -> None:
    figure = draw_confusion(np.array([[3, 1], [0, 9]]), ["a", "b"])
    image = figure.axes[0].images[0]
    assert np.asarray(image.get_array()).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert image.get_clim() == (0, 1)


def test_a_class_without_examples_is_hatched_and_has_no_counts() -> None:
    figure = draw_confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]), ["a", "b", "c"])
    (row,) = figure.axes[0].patches
    drawn = figure.axes[0].transData.inverted().transform_bbox(row.get_window_extent())
    np.testing.assert_allclose([drawn.ymin, drawn.ymax], [0.5, 1.5])
    assert row.get_hatch()
    assert legend(figure) == ["no examples"]
    assert cells(figure) == ["3", "1", "0", "0", "0", "2"]


def test_without_such_a_class_nothing_is_hatched() -> None:
    assert not confusion(3).legends


@pytest.mark.parametrize("count", [2, 10, 21, 200, 300])
def test_no_confusion_is_cut_off_and_cells_are_nearly_square(count: int) -> None:
    matrix = np.eye(count, count + 1, dtype=np.int64)
    matrix[0] = 0
    figure = draw_confusion(matrix, [f"a label {i}" for i in range(count)])
    assert_whole(figure)
    box = figure.axes[0].get_window_extent()
    assert box.width / (count + 1) == pytest.approx(box.height / count, rel=0.25)


def test_an_extra_column_is_unknown() -> None:
    figure = confusion(3, extra=1)
    assert tick_labels(figure, "x") == [*tick_labels(figure, "y"), "unknown"]


def test_above_two_hundred_classes_the_size_stays_and_names_are_left_out() -> None:
    figure = confusion(300)
    assert figure.get_figwidth() <= confusion(200).get_figwidth() + 8
    assert tick_labels(figure, "x") == tick_labels(figure, "y") == []


@pytest.mark.parametrize("count", [2, 10, 21, 61, 200])
@pytest.mark.parametrize("draw", [confusion, classes])
def test_names_never_overlap(draw: Any, count: int) -> None:
    figure = draw(count)
    figure.draw_without_rendering()
    (axes, *_) = figure.axes
    rows = sorted((t.get_window_extent() for t in axes.get_yticklabels()), key=lambda box: box.y0)
    assert len(rows) == count
    assert all(below.y1 <= above.y0 for below, above in pairwise(rows))
    # At 45 degrees, the boxes overlap where the words do not.
    if count > 20 and draw is confusion:
        columns = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(columns) == count
        assert all(left.x1 <= right.x0 for left, right in pairwise(columns))


# -- reliability ------------------------------------------------------------------------------


def test_the_gap_lies_between_accuracy_and_confidence() -> None:
    upper, lower = reliability().axes
    bars, gaps = upper.containers
    assert bars[1].get_height() == pytest.approx(0.4)
    assert gaps[1].get_y() == pytest.approx(0.4)
    assert gaps[1].get_height() == pytest.approx(0.3)
    assert np.isnan(bars[0].get_height())
    assert [bar.get_height() for bar in lower.containers[0]] == [0, 9]
    assert np.asarray(upper.lines[0].get_xydata()).tolist() == [[0, 0], [1, 1]]
    assert "0.300" in upper.get_title()


def test_no_bar_lies_below_the_legend_of_reliability() -> None:
    figure = reliability()
    figure.draw_without_rendering()
    [words] = figure.legends
    assert legend(figure) == ["perfectly calibrated", "accuracy", "gap to the mean probability"]
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not words.get_window_extent().overlaps(axes.get_window_extent())


# -- precision and recall ---------------------------------------------------------------------


def test_the_legend_names_the_average_precision_of_each_class_best_first() -> None:
    figure = draw_precision_recall([curve("a", 0.25), curve("b", NAN), curve("c", 0.75)])
    assert legend(figure) == ["AP 0.750  c", "AP 0.250  a", "no examples  b"]
    assert "0.500" in figure.axes[0].get_title()


def test_of_many_classes_the_best_and_the_worst_are_named() -> None:
    figure = draw_precision_recall([curve(f"c{i}", i / 100) for i in range(40)])
    best = [f"AP 0.{i}0  c{i}" for i in (39, 38, 37, 36, 35)]
    worst = [f"AP 0.0{i}0  c{i}" for i in (4, 3, 2, 1, 0)]
    assert legend(figure) == [*best, "classes between: 30", *worst]
    assert len(figure.axes[0].lines) == 40


def test_up_to_fifteen_lines_are_named_and_can_be_told_apart() -> None:
    figure = draw_precision_recall([curve(str(i), 0.5) for i in range(15)])
    lines = figure.axes[0].lines
    assert len({(str(line.get_color()), str(line.get_linestyle())) for line in lines}) == 15
    assert len(legend(figure)) == 15
    assert legend(draw_precision_recall([curve(str(i), 0.5) for i in range(16)]))[5] == (
        "classes between: 6"
    )


def test_the_order_of_a_curve_does_not_change_its_steps() -> None:
    label, precision, recall, average = rising = curve("a", 0.5)
    falling = (label, precision[::-1], recall[::-1], average)
    lines = [draw_precision_recall([one]).axes[0].lines[0] for one in (rising, falling)]
    assert [line.get_drawstyle() for line in lines] == ["steps-pre", "steps-post"]


def test_many_classes_without_examples_are_counted() -> None:
    empty = np.array([])
    figure = draw_precision_recall([(str(i), empty, empty, NAN) for i in range(12)])
    assert legend(figure) == ["no examples  12 classes"]
    assert "undefined" in figure.axes[0].get_title()


# -- the learning curve -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([1, 2, 4, 8, 16, 18], ["1", "2", "4", "8", "", "18"]),
        ([1, 2, 4, 8, 16, 30], ["1", "2", "4", "8", "16", "30"]),
        ([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 520], None),
    ],
)
def test_numbers_of_examples_do_not_touch(counts: list[int], shown: list[str] | None) -> None:
    figure = learning(counts)
    figure.draw_without_rendering()
    ticks = figure.axes[0].get_xticklabels()
    boxes = [tick.get_window_extent() for tick in ticks if tick.get_text()]
    assert all(left.x1 + left.height / 3 < right.x0 for left, right in pairwise(boxes))
    assert tick_labels(figure, "x")[-1] == str(counts[-1])
    assert shown is None or tick_labels(figure, "x") == shown


# -- thresholds -------------------------------------------------------------------------------


def test_accuracy_ends_where_nothing_is_kept() -> None:
    coverage, accuracy = (np.asarray(line.get_ydata()) for line in thresholds().axes[0].lines)
    assert coverage.tolist() == [1, 0.5, 0]
    assert np.isnan(accuracy).tolist() == [False, False, True]


# -- classes ----------------------------------------------------------------------------------


def test_classes_are_sorted_by_f1_and_undefined_ones_come_last() -> None:
    f1 = np.array([0.2, NAN, 0.9, 0.2])
    figure = classes(4, labels=["a", "b", "c", "d"], f1=f1, support=np.array([3, 0, 5, 7]))
    assert tick_labels(figure, "y") == ["c", "a", "d", "b"]
    widths = [bar.get_width() for bar in figure.axes[0].containers[0]]
    np.testing.assert_array_equal(widths, [0.9, 0.2, 0.2, NAN])
    low, high = figure.axes[0].get_ylim()
    assert low > high  # The best is at the top.
    (right,) = figure.axes[0].child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["5", "3", "7", "0"]


def test_what_is_undefined_is_said_and_has_no_mark() -> None:
    figure = classes(
        4,
        precision=np.array([0.5, NAN, 0.0, NAN]),
        recall=np.array([0.5, 0.0, NAN, NAN]),
        f1=np.array([0.5, 0.0, NAN, NAN]),
    )
    assert cells(figure) == ["", "never predicted", "no examples", "no examples, never predicted"]
    precision, recall = figure.axes[0].lines
    assert np.isnan(precision.get_xdata()).tolist() == [False, True, False, True]
    assert np.isnan(recall.get_xdata()).tolist() == [False, False, True, True]


def test_the_figure_grows_with_the_classes_until_they_are_too_many() -> None:
    heights = [classes(count).get_figheight() for count in (2, 20, 200, 1000)]
    assert heights[0] < heights[1] < heights[2] == heights[3]
    figure = classes(1000)
    assert "Classes by F1: 200 of 1000, the best and the worst" in texts(figure)
    assert tick_labels(figure, "y")[0] == "class 999"
    assert tick_labels(figure, "y")[-1] == "class 0"


def test_of_too_many_classes_those_without_an_f1_are_left_out_first() -> None:
    f1 = np.full(300, NAN)
    f1[[5, 7, 9]] = 0.5, 0.1, 0.9
    figure = classes(300, labels=[f"class {i}" for i in range(300)], f1=f1)
    assert tick_labels(figure, "y") == ["class 9", "class 5", "class 7"]
    assert "Classes by F1: 3 of 300, the best and the worst" in texts(figure)


# -- saving -----------------------------------------------------------------------------------


def test_a_saved_figure_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    path.write_text("old")
    save_figure(thresholds(), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert not {"Software", "Creation Time"} & image.info.keys()
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_output_error_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "plot.png"
    with pytest.raises(OutputError) as caught:
        save_figure(thresholds(), path)
    assert str(caught.value) == f"cannot write {path}: No such file or directory"


def test_a_file_for_a_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Not a directory"):
        save_figure(thresholds(), tmp_path / "file" / "plot.png")


def test_a_folder_in_the_way_stays_and_the_partial_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    path.mkdir()
    with pytest.raises(OutputError, match=r"plot\.png"):
        save_figure(thresholds(), path)
    assert list(tmp_path.iterdir()) == [path]
