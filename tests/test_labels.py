"""Label grammars, files and the checks on the whole list."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import LabelError
from clipcls.labels import (
    RESERVED,
    Label,
    check_not_split,
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
        (
            '27" monitor,15" laptop,phone',
            [(n, [n]) for n in ('27" monitor', '15" laptop', "phone")],
        ),
        ('a" , b"', [('a"', ['a"']), ('b"', ['b"'])]),
        (
            '6" x 4", the "big" one',
            [('6" x 4"', ['6" x 4"']), ('the "big" one', ['the "big" one'])],
        ),
        ('5"=a 5" nail|a "short" nail', [('5"', ['a 5" nail', 'a "short" nail'])]),
        ('"a,b" = "c|d" | "e=f",g', [("a,b", ["c|d", "e=f"]), ("g", ["g"])]),
        (r"say \"hi\",\"quoted\"", [('say "hi"', ['say "hi"']), ('"quoted"', ['"quoted"'])]),
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


PLAIN = NAMES.map(str.strip).filter(lambda name: name[0] != '"' and not set(name) & set("\\\\,=|"))


@given(st.lists(PLAIN, min_size=1, max_size=5, unique_by=lambda n: unicodedata.normalize("NFC", n)))
def test_quotes_inside_words_are_characters(texts: list[str]) -> None:
    assert names(parse_labels(",".join(texts))) == texts
    assert names(parse_labels(" , ".join(texts))) == texts
    assert names(collect_labels(single=texts)) == texts


@given(UNIQUE_NAMES)
def test_labels_quoted_as_csv_are_read_as_csv(texts: list[str]) -> None:
    texts = [text.replace("\\", "/") for text in texts]
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="").writerow(texts)
    if len({unicodedata.normalize("NFC", text) for text in texts}) == len(texts):
        assert names(parse_labels(buffer.getvalue())) == texts


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
        ('cat=a cat|"a kitten', "--labels: a quote is opened and never closed"),
        ('"27" monitor",phone', "--labels: text follows a closing quote: write"),
        ('cat,"a" b,dog', "--labels: text follows a closing quote: write"),
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


def test_a_quote_in_a_line_is_a_character_and_at_its_beginning_a_quote(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.txt", '27" monitor\n"a=b"=a "b"\n')
    assert read_labels(path) == (
        Label('27" monitor', ('27" monitor',)),
        Label("a=b", ('a "b"',)),
    )
    with pytest.raises(LabelError, match=r"labels\.txt:2: a quote is opened and never closed"):
        read_labels(file(tmp_path, "labels.txt", 'cat\n"dog\n'))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "кот\r\nécureuil=a squirrel\r\n"),
        ("labels.csv", "label;prompt\r\nкот;\r\nécureuil;a squirrel\r\n"),
        ("labels.tsv", "label\tprompt\r\nкот\t\r\nécureuil\ta squirrel\r\n"),
        ("labels.json", '{"кот": null,\n"écureuil": "a squirrel"}'),
    ],
)
def test_unicode_files(tmp_path: Path, encoding: str, name: str, text: str) -> None:
    assert read_labels(file(tmp_path, name, text.encode(encoding))) == (
        Label("кот", ("кот",)),
        Label("écureuil", ("a squirrel",)),
    )


def test_windows_files_are_read_and_said_to_be(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.txt", "café\n5 €\n".encode("cp1252"))
    notes: list[str] = []
    assert names(read_labels(path, notes)) == ["café", "5 €"]
    assert [note.startswith(f"{path}: read as Windows-1252") for note in notes] == [True]
    with pytest.raises(LabelError, match=r"labels\.txt:1: 'caf\\x81' holds"):
        read_labels(file(tmp_path, "labels.txt", b"caf\x81\n"))


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


def test_tables_without_a_header_hold_one_column(tmp_path: Path) -> None:
    notes: list[str] = []
    path = file(tmp_path, "labels.csv", 'cat\n"salt, pepper"\n27" monitor\na;b\ntext\n')
    assert names(read_labels(path, notes)) == ["cat", "salt, pepper", '27" monitor', "a;b", "text"]
    path = file(tmp_path, "labels.tsv", "salt, pepper\nred, green\n")
    assert names(read_labels(path, notes)) == ["salt, pepper", "red, green"]
    assert notes == []


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("extension", ["csv", "tsv", "CSV"])
@pytest.mark.parametrize(
    "header",
    [
        *("label,prompt", "Labels,Prompts", "class,text", "CLASSES,texts", "class_name,wording"),
        *("classname,wordings", "Class Name,description", "name,Descriptions", "names,prompt"),
        *("category,prompt", " Categories , Prompt ", '"label","prompt"', "prompt,class"),
    ],
)
def test_headers(tmp_path: Path, header: str, separator: str, extension: str) -> None:
    rows = ["cat,a small cat", "dog,"]
    if header.startswith("prompt"):
        rows = [",".join(reversed(row.split(","))) for row in rows]
    text = "\n".join([header, *rows]).replace(",", separator)
    path = file(tmp_path, f"labels.{extension}", text)
    notes: list[str] = []
    assert read_labels(path, notes) == (Label("cat", ("a small cat",)), Label("dog", ("dog",)))
    (note,) = notes
    assert note.startswith(f"{path}:1: taken for the header, not a label: ")
    assert header.split(",")[0].strip(' "') in note


@pytest.mark.parametrize("header", ["class", "Classes", "label", "labels ", "name", "categories"])
@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels"])
def test_headers_of_a_single_column(tmp_path: Path, header: str, name: str) -> None:
    notes: list[str] = []
    assert names(read_labels(file(tmp_path, name, f"{header}\ncat\ndog\n"), notes)) == [
        "cat",
        "dog",
    ]
    assert notes == [f"{tmp_path / name}:1: taken for the header, not a label: {header.strip()}"]


def test_tables_as_spreadsheets_leave_them(tmp_path: Path) -> None:
    text = 'sep=;\r\n;;\r\nClass;Prompt;;\r\ncat;"a cat; a tabby, small";;\r\ndog;;;\r\nx;y;z\r\n'
    path = file(tmp_path, "labels.csv", text)
    with pytest.raises(LabelError, match=r":6: 3 cells for 2 columns: .* a text with semicolons"):
        read_labels(path)
    labels = read_labels(file(tmp_path, "labels.csv", text.replace("x;y;z", "")))
    assert labels == (Label("cat", ("a cat; a tabby, small",)), Label("dog", ("dog",)))


def test_blanks_after_the_comma_do_not_hide_quotes(tmp_path: Path) -> None:
    path = file(tmp_path, "labels.csv", 'label, prompt\ncat, "a cat, outdoors"\n')
    assert read_labels(path) == (Label("cat", ("a cat, outdoors",)),)


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
        ("class\nsalt, pepper\n", ":2: 2 cells for 1 column: put quotes around a text with commas"),
        ("cat,a cat\n", ":1: 2 columns and no header"),
        (
            "cat;a cat\ndog;a dog\n",
            ":1: 2 columns and no header: begin the file with the line label;",
        ),
        (
            "label,colour\ncat,red\n",
            ":1: the columns are label, colour; allowed are label (or class",
        ),
        ("id;class\n1;cat\n", ":1: the columns are id, class; allowed are label"),
        ("label,class\n1,cat\n", ":1: the columns are label, class; allowed are label"),
        ("class,text,prompt\n", ":1: the columns are class, text, prompt; allowed are label"),
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
        (f'{{"cat": {"1" * 5000}}}', ": not a label file: nested too deeply, or a number in it"),
    ],
)
def test_json_mistakes_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, "labels.json", text)
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert f"{path}{message}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("labels.yaml", b"- cat", r"a label file ends in \.txt, \.csv, \.tsv, \.json"),
        (
            "photo.jpg",
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            r"a label file ends in \.txt, \.csv, \.tsv, \.json",
        ),
        ("photo", b"\xff\xd8\xff\xe0\0\x10JFIF", "is not a text file"),
        ("photo.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "is not a text file"),
        ("pixel.csv", b"GIF89a\x01\0\x01\0\0\0\0;", "is not a text file"),
        ("model.json", b"\x80\x04\x95\0\0\0", "is not a text file"),
        ("missing.txt", None, "cannot be read: No such file"),
        ("missing.yaml", None, "cannot be read: No such file"),
        ("missing", None, "cannot be read: No such file"),
        ("folder.csv/", None, "cannot be read: Is a directory"),
        ("folder/", None, "cannot be read: Is a directory"),
        ("empty.txt", b"", "the file holds no labels"),
        ("empty.csv", b"\xef\xbb\xbf\r\n", "the file holds no labels"),
        ("empty", b"", "the file holds no labels"),
        ("empty.json", b"", "not valid JSON"),
        ("comments.txt", b"# cat\n\n", "the file holds no labels"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    elif data is not None:
        file(tmp_path, name, data)
    with pytest.raises(LabelError, match=message) as caught:
        read_labels(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


# --- pipes ----------------------------------------------------------------------------------------

PIPED = [
    ("cat\nsalt, pepper=salt|pepper\n", ["cat", "salt, pepper"]),
    ("class\ncat\ndog\n", ["cat", "dog"]),
    ("label;prompt\ncat;a cat\n", ["cat"]),
    ('["cat", "dog"]\n', ["cat", "dog"]),
    ('{"cat": "a cat"}', ["cat"]),
]


@pytest.mark.parametrize(("text", "expected"), PIPED)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert names(collect_labels(file=Path("-"))) == expected


@pytest.mark.parametrize("text", ["", "cat\ncat\n", "\0", "label,prompt\n"])
def test_mistakes_on_standard_input_are_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    with pytest.raises(LabelError, match="^standard input:"):
        read_labels(Path("-"))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LabelError, match="^standard input: is closed"):
        read_labels(Path("-"))


@pytest.mark.skipif(os.name == "nt", reason="no such pipes")
@pytest.mark.parametrize(("text", "expected"), PIPED)
@pytest.mark.parametrize("name", ["pipe", "pipe.fifo"])
def test_named_pipes(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(text,))
    writer.start()
    assert names(read_labels(path)) == expected
    writer.join()


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no such files")
def test_process_substitution() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"cat\ndog\n")
    os.close(writing)
    assert names(collect_labels(file=Path(f"/dev/fd/{reading}"))) == ["cat", "dog"]
    os.close(reading)


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


@pytest.mark.parametrize(
    ("inputs", "inline", "shown"),
    [
        (["dog", "images"], ["cat"], "cat,dog"),
        (["images", "dog"], ["cat"], "cat,dog"),
        (["images", "dog", "big bird"], ["cat,"], "cat,dog,big bird"),
        (["images", "dog"], ["fish,cat"], "fish,cat,dog"),
        (["images", ",", "dog"], ["cat"], "cat,dog"),
        (["dog"], ["cat"], "cat,dog"),
        (["@list.txt", "dog"], ["cat"], "cat,dog"),
    ],
)
def test_labels_split_by_the_shell(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    inline: list[str],
    shown: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    with pytest.raises(LabelError, match="labels are joined by commas") as caught:
        check_not_split(inputs, inline)
    assert str(caught.value).endswith(f'--labels "{shown}"')


@pytest.mark.parametrize(
    ("inputs", "inline"),
    [
        (["images"], ["cat"]),
        (["images", "dog"], []),
        (["imagse"], ["cat,dog"]),
        (["images", "dog.jpg"], ["cat"]),
        (["./dog", "images/*", "@dog", "-", "https://x/y", ""], ["cat"]),
    ],
)
def test_inputs_that_are_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], inline: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    check_not_split(inputs, inline)
