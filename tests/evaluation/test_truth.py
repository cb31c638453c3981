"""What a person says each image shows: truth values, folders, and a choice of images."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clipcls.errors import InputError, LabelError, OptionError, UsageError
from clipcls.evaluation.join import Naming
from clipcls.evaluation.truth import (
    Truth,
    TruthOptions,
    find_truth,
    join_truth,
    parse_mapping,
)
from clipcls.inputs.refs import ImageRef
from clipcls.labels import make_labels
from clipcls.question import Inputs
from clipcls.testing import save_colours


def truth_of(
    folder: Path, cells: Sequence[str], labels: str | None = None, **options: Any
) -> Truth:
    """Join a table of images `0.jpg`, `1.jpg`, ... with these cells."""
    table = folder / "table.csv"
    lines = [f'{i}.jpg,"{cell}"' for i, cell in enumerate(cells)]
    table.write_text("\n".join(["path,label", *lines]))
    refs = [ImageRef(i, f"photos/{i}.jpg") for i in range(len(cells))]
    asked = make_labels(labels) if labels else None
    return join_truth(refs, ["photos"], table, asked, TruthOptions(**options))


def single(truth: Truth) -> list[str]:
    assert all(len(values) == 1 for values in truth.values)
    return [values[0] for values in truth.values]


def names(truth: Truth) -> list[str]:
    return [os.path.basename(ref.path) for ref in truth.refs]


GLASSES = (("0", "no-glasses"), ("1", "glasses"))


# ---- truth values


@pytest.mark.parametrize("labels", ["glasses,no-glasses", None])
def test_a_map_says_what_values_mean(tmp_path: Path, labels: str | None) -> None:
    truth = truth_of(tmp_path, ["1", "0", "0"], labels, mapping=GLASSES)
    assert single(truth) == ["glasses", "no-glasses", "no-glasses"]
    assert set(truth.names) == {"glasses", "no-glasses"}
    assert truth.names == (("glasses", "no-glasses") if labels else ("no-glasses", "glasses"))


def test_a_map_may_name_labels_otherwise_and_leave_the_rest_to_their_names(tmp_path: Path) -> None:
    truth = truth_of(
        tmp_path, ["1", "Glasses"], "glasses,no-glasses", mapping=(("1", "No Glasses"),)
    )
    assert single(truth) == ["no-glasses", "glasses"]


def test_a_map_wins_over_a_name(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["cat", "dog"], "cat,dog", mapping=(("cat", "dog"),))
    assert single(truth) == ["dog", "dog"]


@pytest.mark.parametrize("cells", [["0", "2", "1"], ["0.0", "2.0", "1."], ["cat", "Big Dog", "01"]])
def test_class_names_are_what_the_numbers_count(tmp_path: Path, cells: list[str]) -> None:
    truth = truth_of(tmp_path, cells, class_names=make_labels("cat,cow,big-dog"))
    assert single(truth) == ["cat", "big-dog", "cow"]
    assert truth.names == ("cat", "cow", "big-dog")


def test_class_names_and_labels_may_have_another_order(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["0", "1"], "dog,Cat", class_names=make_labels("cat,dog"))
    assert single(truth) == ["Cat", "dog"]
    assert truth.names == ("dog", "Cat")


@pytest.mark.parametrize("cell", ["2", "-1", "0.5", "1.5"])
def test_a_number_beyond_the_class_names_is_unknown(tmp_path: Path, cell: str) -> None:
    with pytest.raises(OptionError, match=f"the truth '{cell}' .1 row. is not among the labels"):
        truth_of(tmp_path, ["0", cell], class_names=make_labels("cat,dog"))


@pytest.mark.parametrize(("cell", "is_short"), [("2", True), ("1", False), ("cow", False)])
def test_class_names_that_are_too_few_are_counted(
    tmp_path: Path, cell: str, is_short: bool
) -> None:
    with pytest.raises(OptionError) as caught:
        truth_of(tmp_path, ["0", cell], "cat", class_names=make_labels("cat,dog"))
    counted = "labels 'cat' (--class-names has 2, for the numbers 0 to 1): say which"
    assert (counted in str(caught.value)) == is_short


def test_a_value_with_a_blank_is_quoted_for_the_shell(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="with --map 'brick wall=LABEL', take"):
        truth_of(tmp_path, ["cat", "brick wall"], "cat,dog")


@pytest.mark.parametrize("cell", ["no-glasses", "No Glasses", "NO_GLASSES", " no  glasses "])
def test_a_label_may_be_spelt_otherwise(tmp_path: Path, cell: str) -> None:
    assert single(truth_of(tmp_path, [cell], "glasses,no-glasses")) == ["no-glasses"]


def test_labels_that_differ_in_spelling_only_need_the_exact_one(tmp_path: Path) -> None:
    assert single(truth_of(tmp_path, ["Cat", "cat"], "cat,Cat")) == ["Cat", "cat"]
    with pytest.raises(OptionError, match="the truth 'CAT'"):
        truth_of(tmp_path, ["CAT"], "cat,Cat")


@pytest.mark.parametrize("labels", ["cat", None])
def test_unknown_becomes_no_label_by_itself(tmp_path: Path, labels: str | None) -> None:
    with pytest.raises(OptionError, match=r"the truth 'unknown' \(1 row\) is not among .*'cat'"):
        truth_of(tmp_path, ["cat", "unknown"], labels)
    assert truth_of(tmp_path, ["cat", "unknown"], "cat,unknown").names == ("cat", "unknown")


def test_unknown_values_are_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        truth_of(tmp_path, ["cat", "cow", "cow", "pig", ""], "cat,dog")
    assert str(caught.value) == (
        "the truth 'cow' (2 rows) and 1 more are not among the labels 'cat', 'dog': say which it is"
        " with --map cow=LABEL, take such images for what they are, of none of the labels, with"
        " --other-as unknown, or leave such rows out with --ignore-unknown"
    )


@pytest.mark.parametrize("where", ["multi_label", "only_labels"])
def test_where_no_image_can_be_unknown_that_is_no_advice(tmp_path: Path, where: str) -> None:
    with pytest.raises(OptionError, match="--map cow=LABEL, or leave such") as caught:
        truth_of(tmp_path, ["cat", "cow"], "cat,dog", **{where: True})
    assert "--other-as" not in str(caught.value)
    with pytest.raises(OptionError, match="there is no label 'unknown'"):
        truth_of(tmp_path, ["cat"], "cat,dog", mapping=(("cow", "unknown"),), **{where: True})


@pytest.mark.parametrize("labels", ["glasses,no-glasses", None])
def test_a_mapped_number_may_be_written_otherwise(tmp_path: Path, labels: str | None) -> None:
    mapping = (("-1", "no-glasses"), ("1.0", "glasses"))
    truth = truth_of(tmp_path, ["1", "-1.0", "1.0", "-1"], labels, mapping=mapping)
    assert single(truth) == ["glasses", "no-glasses"] * 2
    assert set(truth.names) == {"glasses", "no-glasses"}
    with pytest.raises(OptionError, match=r"1\.5"):
        truth_of(tmp_path, ["1", "1.5"], "glasses,no-glasses", mapping=mapping)


@pytest.mark.parametrize("labels", ["cat,dog", None])
def test_unknown_is_no_label_to_learn(tmp_path: Path, labels: str | None) -> None:
    truth = truth_of(tmp_path, ["cat", "Unknown", "dog", "cow"], labels, to_learn=True)
    assert sorted(truth.names) == ["cat", "cow", "dog"]
    assert single(truth) == ["cat", "dog", "cow"]
    assert truth.report.unknown_values == {"Unknown": 1}
    assert any("--labels ...,NAME --map Unknown=NAME" in line for line in truth.report.lines())


@pytest.mark.parametrize("labels", ["cat,neither", None])
def test_unknown_is_learned_under_another_name(tmp_path: Path, labels: str | None) -> None:
    mapping = (("unknown", "neither"),)
    truth = truth_of(tmp_path, ["cat", "unknown"], labels, to_learn=True, mapping=mapping)
    assert single(truth) == ["cat", "neither"]
    assert not truth.report.unknown_values


def test_unknown_values_are_left_out_and_counted_when_that_is_asked(tmp_path: Path) -> None:
    cells = ["cow", "cat", "cow", "", "pig"]
    truth = truth_of(tmp_path, cells, "cat,dog", ignore_unknown=True)
    assert names(truth) == ["1.jpg"]
    assert truth.report.unknown_values == {"cow": 2, "pig": 1}
    assert truth.report.without_truth == ("photos/3.jpg",)


def test_when_nothing_is_left_that_is_said(tmp_path: Path) -> None:
    said = "the truth is 'cow', 'pig', and the labels are 'cat', 'dog': .*--other-as unknown"
    with pytest.raises(InputError, match=f"no image is left: {said}"):
        truth_of(tmp_path, ["cow", "", "pig"], "cat,dog", ignore_unknown=True)
    with pytest.raises(InputError, match="no image is left: every row's truth is empty"):
        truth_of(tmp_path, ["", ""], "cat,dog")


def test_an_empty_truth_is_counted(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["cat", "", " ", "dog"], "cat,dog")
    assert names(truth) == ["0.jpg", "3.jpg"]
    assert [ref.index for ref in truth.refs] == [0, 1]
    assert truth.report.without_truth == ("photos/1.jpg", "photos/2.jpg")


def test_labels_are_left_to_the_truth_in_natural_order(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["type 10", "type 2", "type 10", "a=b|c", ""])
    assert truth.names == ("a=b|c", "type 2", "type 10")
    assert truth.labels[0].wordings == ("a=b|c",)
    assert truth.report.notes[-1] == (
        "the labels are those of the truth: 'a=b|c', 'type 2', 'type 10'"
    )


@pytest.mark.parametrize("cells", [["0", "1"], ["cat", "1.0"], ["-1", "+1"]])
def test_numbers_alone_are_no_labels(tmp_path: Path, cells: list[str]) -> None:
    with pytest.raises(OptionError, match=r"say what the numbers mean, with --map \S+=NAME"):
        truth_of(tmp_path, cells)


def test_values_beside_a_map_are_labels_or_left_out(tmp_path: Path) -> None:
    mapping = (("1", "cat"),)
    assert truth_of(tmp_path, ["1", "dog"], mapping=mapping).names == ("cat", "dog")
    truth = truth_of(tmp_path, ["1", "dog"], mapping=mapping, ignore_unknown=True)
    assert truth.names == ("cat",)
    with pytest.raises(OptionError, match="--map 2=NAME"):
        truth_of(tmp_path, ["1", "2"], mapping=mapping)


def test_a_map_to_no_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--map 1=cow: there is no label 'cow'; .* 'cat', 'dog'"):
        truth_of(tmp_path, ["1"], "cat,dog", mapping=(("1", "cow"),))


def test_the_label_truth_is_refused_as_a_column_of_the_report(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="rename it"):
        truth_of(tmp_path, ["truth"], "truth,lie")


def test_the_values_of_the_map_flag() -> None:
    found = parse_mapping(["0=no-glasses,1=glasses", '"a,b"=big dog'])
    assert found == (("0", "no-glasses"), ("1", "glasses"), ("a,b", "big dog"))
    assert parse_mapping([]) == ()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["0"], "--map: '0' is no pair: write VALUE=LABEL"),
        (["=cat"], "is no pair"),
        (["0="], "is no pair"),
        ([""], "is no pair"),
        (["0=cat,"], "is no pair"),
        (["0=a", "0=b"], "--map: '0' is mapped twice"),
        (["0=a|b"], "--map: '0' is mapped to several labels"),
        (['0="a'], "a quote is opened"),
    ],
)
def test_a_map_that_is_none(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_mapping(texts)


# ---- several labels to an image


def test_a_cell_may_hold_several_labels_or_none(tmp_path: Path) -> None:
    cells = ["cat; Dog", "", "dog;cat;dog", "cow", ";"]
    truth = truth_of(tmp_path, cells, "dog,cat,cow", multi_label=True)
    assert truth.values == (("cat", "dog"), (), ("dog", "cat"), ("cow",), ())
    assert truth.report.without_truth == ()


def test_labels_of_cells_with_several_are_their_parts(tmp_path: Path) -> None:
    assert truth_of(tmp_path, ["b;a", "c"], multi_label=True).names == ("a", "b", "c")


def test_a_row_with_an_unknown_label_among_several_is_left_out(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["a;x", "a"], "a,b", multi_label=True, ignore_unknown=True)
    assert names(truth) == ["1.jpg"]
    assert truth.report.unknown_values == {"x": 1}


def test_several_labels_without_the_flag_name_it(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--multi-label takes it for several labels"):
        truth_of(tmp_path, ["a;b"], "a,b")


# ---- limit and sample


def test_the_limit_takes_the_first_of_the_table(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, ["a", "", "b", "a", "b"], limit=2)
    assert names(truth) == ["0.jpg", "2.jpg"]
    assert truth.report.left_out == 2
    assert truth_of(tmp_path, ["a", "b"], limit=9).report.left_out == 0


def test_the_order_is_the_table_s(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\n3.jpg,a\n1.jpg,b\n2.jpg,a\n")
    refs = [ImageRef(i, f"p/{i}.jpg") for i in range(4)]
    truth = join_truth(refs, ["p"], table, None, TruthOptions(limit=2))
    assert names(truth) == ["3.jpg", "1.jpg"]
    assert truth.refs == (ImageRef(0, "p/3.jpg"), ImageRef(1, "p/1.jpg"))


def test_a_sample_is_the_same_for_a_seed_and_keeps_the_order(tmp_path: Path) -> None:
    cells = ["a", "b"] * 50
    first = truth_of(tmp_path, cells, sample=20, seed=1)
    assert names(first) == names(truth_of(tmp_path, cells, sample=20, seed=1))
    assert names(first) != names(truth_of(tmp_path, cells, sample=20, seed=2))
    numbers = [int(name.removesuffix(".jpg")) for name in names(first)]
    assert numbers == sorted(set(numbers))
    assert numbers != list(range(20))
    assert len(numbers) == 20
    assert first.report.left_out == 80
    assert single(first) == [cells[i] for i in numbers]
    assert truth_of(tmp_path, cells, sample=100).report.left_out == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit is 0: give a whole number of 1 or more"),
        ({"sample": -1}, "--sample is -1"),
        ({"limit": 1, "sample": 1}, "--limit and --sample contradict each other"),
    ],
)
def test_numbers_that_choose_nothing_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TruthOptions(**options)  # type: ignore[arg-type]


# ---- a folder per class


def of_folders(
    paths: Sequence[str], roots: Sequence[str], labels: str | None = None, **options: Any
) -> Truth:
    refs = [ImageRef(i, path) for i, path in enumerate(paths)]
    asked = make_labels(labels) if labels else None
    return join_truth(refs, roots, None, asked, TruthOptions(**options))


def test_the_folder_below_the_root_is_the_label() -> None:
    paths = ["p/cat/1.jpg", "p/big_dog/deep/er/2.jpg", "p/loose.jpg", "q/cat/3.jpg"]
    truth = of_folders(paths, ["p", "q/"], "cat,Big Dog")
    assert single(truth) == ["cat", "Big Dog", "cat"]
    assert truth.report.without_truth == ("p/loose.jpg",)
    assert of_folders(paths, ["p", "q"]).names == ("big_dog", "cat")


def test_a_root_within_a_root_is_the_nearer_one() -> None:
    truth = of_folders(["p/cat/1.jpg", "p/q/dog/2.jpg"], ["p", "p/q"])
    assert single(truth) == ["cat", "dog"]


def test_an_image_that_was_named_itself_lies_in_no_folder_of_a_class() -> None:
    truth = of_folders(["home/me/1.jpg", "p/cat/2.jpg"], ["p"])
    assert truth.names == ("cat",)
    assert truth.report.without_truth == ("home/me/1.jpg",)


@pytest.mark.parametrize("roots", [["p"], []])
def test_without_folders_of_classes_the_layout_is_said(roots: list[str]) -> None:
    with pytest.raises(InputError, match="--from-folders wants a FOLDER with FOLDER/<class>/"):
        of_folders(["p/1.jpg"], roots)


def test_a_folder_that_is_no_label_is_an_error_or_left_out() -> None:
    paths = ["p/cat/1.jpg", "p/cow/2.jpg", "p/0/3.jpg"]
    with pytest.raises(OptionError, match="the truth 'cow' .* --map cow=LABEL"):
        of_folders(paths, ["p"], "cat,dog")
    truth = of_folders(paths, ["p"], "cat,dog", ignore_unknown=True, mapping=(("0", "dog"),))
    assert single(truth) == ["cat", "dog"]
    assert truth.report.unknown_values == {"cow": 1}


@pytest.mark.parametrize("root", ["p", "./p", "p/", "p//", "p/.", ".", "{cwd}/p", "../{here}/p"])
def test_folders_are_found_however_the_root_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "p" if root != "." else tmp_path
    save_colours(folder / "red", ["red"])
    save_colours(folder / "blue" / "deep", ["blue"])
    given = root.format(cwd=tmp_path, here=tmp_path.name)
    truth = find_truth(Inputs((given,)), None, None, TruthOptions())
    assert sorted(zip(single(truth), names(truth), strict=True)) == [
        ("blue", "0-blue.png"),
        ("red", "0-red.png"),
    ]


# ---- images and table from the disk


def test_a_table_that_is_missing_is_said(tmp_path: Path) -> None:
    save_colours(tmp_path / "p", ["red"])
    table = tmp_path / "none.csv"
    with pytest.raises(InputError, match="no such file: .*none.csv, the table of labels"):
        find_truth(Inputs((str(tmp_path / "p"),)), table, None, TruthOptions())


def test_a_folder_in_place_of_the_table_is_called_one(tmp_path: Path) -> None:
    save_colours(tmp_path / "p", ["red"])
    with pytest.raises(InputError, match="Is a directory"):
        find_truth(Inputs((str(tmp_path / "p"),)), tmp_path, None, TruthOptions())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_the_table_may_come_through_a_pipe(tmp_path: Path) -> None:
    save_colours(tmp_path / "p", ["red"])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("path,label\n0-red.png,red\n",))
    writer.start()
    truth = find_truth(Inputs((str(tmp_path / "p"),)), pipe, None, TruthOptions())
    writer.join()
    assert single(truth) == ["red"]


def test_glasses_or_no_glasses(tmp_path: Path) -> None:
    # The layout of the Kaggle data set: an integer id, 512 numbers and a column of 0 and 1.
    folder = tmp_path / "faces-spring-2020"
    folder.mkdir()
    wears = {i: i % 3 % 2 for i in range(1, 131)}
    for i in wears:
        (folder / f"face-{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    table = tmp_path / "train.csv"
    numbers = ",".join(f"{i / 7:.6f}" for i in range(512))
    header = ",".join(["id", *(f"v{i}" for i in range(1, 513)), "glasses"])
    # Not every image has a row, and not every row an image.
    lines = [f"{i},{numbers},{wears.get(i, 1)}" for i in [*range(1, 121), 4000]]
    table.write_text("\n".join([header, *lines]))
    inputs = Inputs((str(folder),))
    labels = make_labels("glasses,no-glasses")
    with pytest.raises(UsageError, match=r"perhaps --image-pattern 'face-\{id\}.png'"):
        find_truth(inputs, table, labels, TruthOptions())
    naming = Naming(image_pattern="face-{id}.png")
    with pytest.raises(OptionError, match="choose one with --label-column: 'v1', .* 505 more"):
        find_truth(inputs, table, labels, TruthOptions(naming=naming))
    options = TruthOptions(
        naming=naming,
        label_column="glasses",
        mapping=parse_mapping(["0=no-glasses,1=glasses"]),
        limit=100,
    )
    truth = find_truth(inputs, table, labels, options)
    assert names(truth) == [f"face-{i}.png" for i in range(1, 101)]
    assert single(truth) == ["glasses" if wears[i] else "no-glasses" for i in range(1, 101)]
    report = truth.report
    assert report.left_out == 20
    assert report.rows_without_image == ("face-4000.png",)
    assert len(report.images_without_row) == 10
    assert report.ambiguous == ()
