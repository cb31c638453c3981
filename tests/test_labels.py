"""Label grammars, files and the checks on the whole list."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import LabelError
from clipcls.labels import (
    RESERVED,
    Label,
    collect_labels,
    default_wording,
    make_labels,
    parse_labels,
    read_labels,
)

SPECIAL = ',"\\=|'
NAMES = st.text(
    st.one_of(
        st.sampled_from(SPECIAL + " #-_aé"),
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")),
    ),
    min_size=1,
).filter(lambda name: name.strip() and name not in RESERVED and not name.startswith("logit:"))
UNIQUE_NAMES = st.lists(
    NAMES, min_size=1, max_size=5, unique_by=lambda name: unicodedata.normalize("NFC", name)
)


def names(labels: tuple[Label, ...]) -> list[str]:
    return [label.name for label in labels]


def escaped(text: str) -> str:
    """Write `text` so that the inline grammar gives it back, blanks at its ends included."""
    body = "".join("\\" + char if char in SPECIAL else char for char in text)
    return f'"{body}"'


def file(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- inline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("glasses,no-glasses", [("glasses", ["glasses"]), ("no-glasses", ["no glasses"])]),
        (" cat , dog ", [("cat", ["cat"]), ("dog", ["dog"])]),
        (r"salt\, pepper,oil", [("salt, pepper", ["salt, pepper"]), ("oil", ["oil"])]),
        ('"salt, pepper",oil', [("salt, pepper", ["salt, pepper"]), ("oil", ["oil"])]),
        ('a" , "b', [("a , b", ["a , b"])]),
        ('" a "', [(" a ", ["a"])]),
        ('"a ""b"""', [('a "b"', ['a "b"'])]),
        (r"5\" nail", [('5" nail', ['5" nail'])]),
        (r"C:\temp", [(r"C:\temp", [r"C:\temp"])]),
        (r"a\\,b", [("a\\", ["a\\"]), ("b", ["b"])]),
        ("e=m=c", [("e", ["m=c"])]),
        (r"e\=mc,a\|b", [("e=mc", ["e=mc"]), ("a|b", ["a|b"])]),
        ("cat = a small cat | a big cat", [("cat", ["a small cat", "a big cat"])]),
        ('cat="a|b"|c', [("cat", ["a|b", "c"])]),
        ("snake_case-name", [("snake_case-name", ["snake case name"])]),
        ("cat=black_cat", [("cat", ["black_cat"])]),
        ("Cat,cat", [("Cat", ["Cat"]), ("cat", ["cat"])]),
        ("-", [("-", ["-"])]),
    ],
)
def test_inline_grammar(text: str, expected: list[tuple[str, list[str]]]) -> None:
    assert [(label.name, list(label.wordings)) for label in parse_labels(text)] == expected


@given(UNIQUE_NAMES)
def test_every_name_can_be_written_inline(texts: list[str]) -> None:
    assert names(parse_labels(",".join(map(escaped, texts)))) == texts


@given(NAMES, st.lists(NAMES, min_size=1, max_size=4))
def test_every_wording_can_be_written_inline(name: str, wordings: list[str]) -> None:
    text = escaped(name) + "=" + "|".join(map(escaped, wordings))
    assert parse_labels(text) == (Label(name, tuple(wordings)),)


@given(st.text())
def test_any_text_is_usable_labels_or_an_error_of_one_line(text: str) -> None:
    labels: tuple[Label, ...] = ()
    message = ""
    try:
        labels = parse_labels(text)
    except LabelError as error:
        message = str(error)
    assert "\n" not in message
    assert bool(labels) != bool(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--labels, label 1: the label is empty"),
        ("cat,,dog", "--labels, label 2: the label is empty"),
        ("cat,dog,", "--labels, label 3: the label is empty"),
        ('cat,"  "', "--labels, label 2: the label is empty"),
        ("=a cat", "--labels, label 1: the label is empty"),
        ("cat=", "--labels, label 1: the label 'cat' has an empty wording"),
        ("a\nb=", r"the label 'a\nb' has an empty wording"),
        ("cat=a||b", "--labels, label 1: the label 'cat' has an empty wording"),
        ('cat,"dog', "--labels: a quote is opened and never closed"),
        ("cat|dog", r"--labels, label 1: 'cat|dog' has several wordings and no name"),
        ("cat,dog,cat", "label 3: the label 'cat' is already there (--labels, label 1)"),
        ("e\u0301clair,\u00e9clair", "label 2: the label '\u00e9clair' is already there"),
        ("cat,error", "--labels, label 2: 'error' is a fixed column of the output"),
        ("cat,logit:cat", "--labels, label 2: 'logit:cat' is the raw column of the label 'cat'"),
        ("a\tb", "--labels, label 1: 'a\\tb' holds a line break, tab"),
        ("cat=a\nb", "holds a line break, tab"),
        ("\udcff", "'\\udcff' holds"),
    ],
)
def test_inline_mistakes_name_the_place(text: str, message: str) -> None:
    with pytest.raises(LabelError) as caught:
        parse_labels(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RESERVED)
def test_fixed_columns_are_no_labels(name: str) -> None:
    with pytest.raises(LabelError, match=f"'{name}' is a fixed column"):
        parse_labels(name)
    assert names(parse_labels(name.upper())) == [name.upper()]


def test_default_wording_changes_only_hyphens_and_underscores() -> None:
    assert default_wording("Mid-Air_collision (2)") == "Mid Air collision (2)"
    assert default_wording("_private") == "private"
    assert default_wording("--") == "--"


# --- .txt -----------------------------------------------------------------------------------------


def test_txt_lines(tmp_path: Path) -> None:
    text = '\ufeff# pets\r\ncat\r\n\r\n  dog=a dog|a hound  \r\nsalt, pepper\r\n"#1"\r\n'
    labels = read_labels(file(tmp_path, "labels.TXT", text))
    assert labels == (
        Label("cat", ("cat",)),
        Label("dog", ("a dog", "a hound")),
        Label("salt, pepper", ("salt, pepper",)),
        Label("#1", ("#1",)),
    )


def test_line_ends_of_old_macs(tmp_path: Path) -> None:
    assert names(read_labels(file(tmp_path, "labels.txt", "cat\rdog\r"))) == ["cat", "dog"]


def test_txt_mistakes_name_file_and_lines(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.txt", "# pets\ncat\ndog\n\ncat\n")
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}:5: the label 'cat' is already there ({path}:2)")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.txt", "cat\nécureuil\n".encode("latin-1"))
    with pytest.raises(LabelError, match=r"labels\.txt:2: the text is not UTF-8: save"):
        read_labels(path)


# --- .csv -----------------------------------------------------------------------------------------


def test_csv_with_header(tmp_path: Path) -> None:
    text = (
        "\ufeffLabel,Prompt\r\ncat,a small cat\r\n\r\nno-glasses,\r\n"
        'dog,"a dog, outdoors"\r\ncat,a big cat\r\na=b|c\r\n'
    )
    assert read_labels(file(tmp_path, "labels.csv", text)) == (
        Label("cat", ("a small cat", "a big cat")),
        Label("no-glasses", ("no glasses",)),
        Label("dog", ("a dog, outdoors",)),
        Label("a=b|c", ("a=b|c",)),
    )


def test_csv_columns_in_any_order(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.csv", "prompt,label\na small cat,cat\n")
    assert read_labels(path) == (Label("cat", ("a small cat",)),)


def test_csv_of_one_column_needs_no_header(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.csv", 'cat\n"salt, pepper"\n')
    assert names(read_labels(path)) == ["cat", "salt, pepper"]


@given(UNIQUE_NAMES)
def test_csv_cells_are_literal(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    expected = [text.strip() for text in texts]
    if len({unicodedata.normalize("NFC", text) for text in expected}) < len(texts) or set(
        expected
    ) & set(RESERVED):
        return
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["label"], *([text] for text in texts)])
    path = file(tmp_path_factory.mktemp("csv"), "labels.csv", buffer.getvalue())
    assert names(read_labels(path)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,prompt\ncat,a cat, outdoors\n", ":2: 3 cells for 2 columns: put quotes"),
        ("cat,a cat\n", ":1: 2 columns and no header"),
        ("label;prompt\ncat;a cat\n", ":1: the separator is ';'; allowed is the comma"),
        ("label,wording\ncat,a cat\n", ":1: the columns are label, wording; allowed are label"),
        ("label,label\n", ":1: the columns are label, label"),
        ("label,prompt\ncat,a cat\ndog,\ncat,a cat\n", ":4: the label 'cat' repeats "),
        ("cat\ndog\ncat\n", ":3: the label 'cat' repeats "),
        ('label,prompt\ncat,"a\nlong"\n,a dog\n', ":2: 'a\\nlong' holds a line break"),
        ('label,prompt\ncat,"a\nlong"\ndog,x,y\n', ":4: 3 cells for 2 columns"),
        ("label,prompt\ncat,\n,a dog\n", ":3: the label is empty"),
        ('label\ncat\n"dog\n', ":3: not valid CSV"),
        ("label,prompt\n", ": the file holds no labels"),
    ],
)
def test_csv_mistakes_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, "labels.csv", text)
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert f"{path}{message}" in str(caught.value)


# --- .json ----------------------------------------------------------------------------------------


def test_json_forms(tmp_path: Path) -> None:
    value = {"no-glasses": None, "cat": "a cat", "dog": ["a dog", "a hound"]}
    assert read_labels(file(tmp_path, "labels.json", json.dumps(value))) == (
        Label("no-glasses", ("no glasses",)),
        Label("cat", ("a cat",)),
        Label("dog", ("a dog", "a hound")),
    )
    assert names(read_labels(file(tmp_path, "list.json", '["cat", "a,b=c"]'))) == ["cat", "a,b=c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cat": 1,\n"dog"}', ":2: not valid JSON"),
        ('{"cat": "a", "cat": "b"}', ": the label 'cat' is there twice"),
        ('{"cat": 1}', ", label 1: the wording of 'cat' is a text or a list of texts, not 1"),
        ('{"cat": ["a", 2]}', ", label 1: the wording of 'cat'"),
        ('{"cat": []}', ", label 1: the label 'cat' has an empty wording"),
        ('["cat", 3]', ", label 2: a label is a text, not 3"),
        ('"cat"', ": a str holds no labels"),
        ("[]", ": the file holds no labels"),
        ('["\\ud800"]', ", label 1: '\\ud800' holds"),
        ("[" * 100_000, ": not a label file: nested too deeply"),
    ],
)
def test_json_mistakes_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, "labels.json", text)
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert f"{path}{message}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labels.yaml", r"a label file ends in \.txt, \.csv, \.json"),
        ("labels", r"a label file ends in \.txt, \.csv, \.json"),
        ("missing.txt", "cannot be read: No such file"),
        ("folder.csv", "cannot be read: Is a directory"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(LabelError, match=message):
        read_labels(tmp_path / name)


# --- from Python and from flags -------------------------------------------------------------------


def test_a_string_is_never_taken_for_letters() -> None:
    assert names(make_labels("cat")) == ["cat"]
    assert names(make_labels("cat,dog")) == ["cat", "dog"]


def test_python_values(tmp_path: Path) -> None:
    done = Label("bird", ("a bird",))
    assert make_labels(["a,b", done]) == (Label("a,b", ("a,b",)), done)
    assert make_labels({"cat": ("a cat", "a kitten"), "no_cat": None}) == (
        Label("cat", ("a cat", "a kitten")),
        Label("no_cat", ("no cat",)),
    )
    assert names(make_labels(file(tmp_path, "labels.txt", "cat"))) == ["cat"]


@pytest.mark.parametrize("value", [[], {}, [1], b"cat", {"cat", "dog"}, {"cat": b"x"}, 7])
def test_python_values_that_are_no_labels(value: object) -> None:
    with pytest.raises(LabelError):
        make_labels(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", [Label("", ("a",)), Label("a", ()), Label("a", ("",))])
def test_finished_labels_are_checked(label: Label) -> None:
    with pytest.raises(LabelError):
        make_labels([Label("ok", ("ok",)), label])


def test_flags_are_joined_in_a_fixed_order(tmp_path: Path) -> None:
    labels = collect_labels(
        inline=["a,b", "c"], single=["d, e=x|y"], file=file(tmp_path, "labels.txt", "f")
    )
    assert names(labels) == ["a", "b", "c", "d, e", "f"]
    assert labels[3].wordings == ("x", "y")


def test_duplicates_across_flags_name_both_places(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.txt", "dog\ncat")
    with pytest.raises(LabelError) as caught:
        collect_labels(inline=["bird", "cat"], file=path)
    assert f"{path}:2: the label 'cat'" in str(caught.value)
    assert "(--labels (2), label 1)" in str(caught.value)


def test_no_labels_at_all_names_the_flags() -> None:
    with pytest.raises(LabelError, match="--labels a,b,c or --label NAME or --labels-file FILE"):
        collect_labels()


def test_a_file_given_as_labels_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "names.txt", "cat\ndog")
    with pytest.raises(LabelError, match=r"'names\.txt' is a file: read it with --labels-file"):
        collect_labels(inline=["names.txt"])
    assert names(collect_labels(single=["names.txt"])) == ["names.txt"]
    assert names(collect_labels(inline=["other.txt"])) == ["other.txt"]
    assert len(collect_labels(inline=[f"{'x' * 5000},other.txt"])) == 2
