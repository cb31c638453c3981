"""Templates, template sets and the prompts made of them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcls.errors import LabelError, TemplateError
from clipcls.labels import Label, make_labels
from clipcls.prompts import (
    DEFAULT_SET,
    SLOT,
    PromptSet,
    TemplateSet,
    build_prompts,
    collect_templates,
    find_set,
    list_sets,
    load_templates,
    make_templates,
    parse_template,
    set_names,
)

LINE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
WORDING = LINE.filter(lambda text: bool(text.strip()))


def prompts_of(wording: str, template: str) -> tuple[str, ...]:
    return build_prompts([Label("label", (wording,))], [template]).prompts[0]


# --- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a <>", "a photo of a <>"),
        ("  a photo of a {}. ", "a photo of a <>."),
        ("{}, a kind of <>", "<>, a kind of <>"),
        ("<>", "<>"),
    ],
)
def test_slots(text: str, expected: str) -> None:
    assert parse_template(text) == expected


@pytest.mark.parametrize("text", ["", "a photo", "a photo of a {c}", "< >"])
def test_a_template_without_a_slot_names_the_place(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(text, "sets/mine.txt:3")
    assert str(caught.value).startswith("sets/mine.txt:3: the template")
    assert "write <> or {} where the label goes" in str(caught.value)


@pytest.mark.parametrize("text", ["a\n<>", "\udcff <>", "\u2028a <>b\tc"])
def test_a_template_is_one_line_of_text(text: str) -> None:
    with pytest.raises(TemplateError, match="holds a line break") as caught:
        parse_template(text)
    assert "\n" not in str(caught.value)


@given(LINE, LINE)
def test_parsing_twice_changes_nothing(before: str, after: str) -> None:
    parsed = parse_template(f"{before}{{}}{after}")
    assert parse_template(parsed) == parsed
    assert SLOT in parsed


# --- sets and files -------------------------------------------------------------------------------


def test_shipped_sets_are_complete_and_described() -> None:
    sets = {found.name: found for found in list_sets()}
    assert list(sets)[0] == DEFAULT_SET
    assert set(sets) == {
        *("photo", "plain", "faces", "scenes", "objects", "documents"),
        *("openai7", "openai80"),
    }
    for found in sets.values():
        assert found.description
        assert not found.description.startswith("#")
        assert len(set(found.templates)) == len(found.templates) > 0
        assert all(SLOT in template for template in found.templates)
    assert sets["photo"].templates == ("a photo of a <>",)
    assert sets["plain"].templates == ("<>",)


@pytest.mark.parametrize(
    ("name", "constant"),
    [("openai7", "SIMPLE_IMAGENET_TEMPLATES"), ("openai80", "OPENAI_IMAGENET_TEMPLATES")],
)
def test_openai_sets_are_those_of_open_clip(name: str, constant: str) -> None:
    from open_clip import zero_shot_metadata

    functions = getattr(zero_shot_metadata, constant)
    assert load_templates(name) == tuple(function("<>") for function in functions)
    assert len(functions) == int(name.removeprefix("openai"))


def test_listing_sets_imports_nothing_heavy() -> None:
    code = (
        "import sys; from clipcls.prompts import list_sets; list_sets()\n"
        "print([m for m in ('torch', 'open_clip', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_template_file(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_bytes("\ufeff# mine\r\n\r\n a drawing of a {} \r\n<>\r\n".encode())
    assert load_templates(str(path)) == ("a drawing of a <>", "<>")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_template_files_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("# für uns\r\nein Bild für <>\r\n{} – é\r\n".encode(encoding))
    notes: list[str] = []
    assert collect_templates(named=str(path), notes=notes) == ("ein Bild für <>", "<> – é")
    assert [note.startswith(f"{path}: read as Windows-1252") for note in notes] == (
        [True] if encoding == "cp1252" else []
    )


def test_templates_from_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a <>\nno slot\n")))
    with pytest.raises(TemplateError, match="^standard input:2: the template 'no slot'"):
        load_templates("-")
    if os.path.exists("/dev/fd"):
        reading, writing = os.pipe()
        os.write(writing, b"a drawing of a {}\n")
        os.close(writing)
        assert load_templates(f"/dev/fd/{reading}") == ("a drawing of a <>",)
        os.close(reading)


def test_a_line_without_a_slot_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\na photo of a <>\n\na drawing\n")
    with pytest.raises(TemplateError) as caught:
        load_templates(str(path))
    assert str(caught.value).startswith(f"{path}:4: the template 'a drawing' has no slot")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "photo.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0 <>")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(TemplateError, match="holds no templates"):
        load_templates(str(tmp_path / "empty.txt"))
    with pytest.raises(TemplateError, match=r"photo\.txt: is not a text file"):
        load_templates(str(tmp_path / "photo.txt"))
    with pytest.raises(TemplateError, match=r"folder\.txt: cannot be read: Is a directory"):
        load_templates(str(tmp_path / "folder.txt"))
    with pytest.raises(TemplateError, match=r"missing\.txt: cannot be read: No such file"):
        load_templates(str(tmp_path / "missing.txt"))


def test_a_set_wins_over_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain").write_text("a drawing of a <>")
    assert load_templates("plain") == ("<>",)
    assert make_templates(Path("plain")) == ("a drawing of a <>",)
    assert load_templates("./plain") == ("a drawing of a <>",)


@pytest.mark.parametrize("find", [load_templates, find_set])
@pytest.mark.parametrize(
    ("name", "near"), [("face", "faces"), ("FACES", "faces"), ("openai8", "openai80"), ("zzz", "")]
)
def test_an_unknown_set_lists_the_sets_and_the_near_one(
    find: Callable[[str], object], name: str, near: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        find(name)
    assert (f"did you mean {near}" if near else f"no set '{name}'; the") in str(caught.value)
    assert all(name in str(caught.value) for name in set_names())


def test_a_set_by_its_name() -> None:
    assert [find_set(name) for name in set_names()] == list(list_sets())
    assert find_set("photo") == TemplateSet(
        "photo", "The default: any photograph", ("a photo of a <>",)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a photo of a {}", "is a template: give it with --template"),
        ("./faces", "faces: cannot be read"),
        ("", "there is no set ''"),
        ("x" * 5000, "there is no set 'xxx"),
    ],
)
def test_words_that_are_no_set(name: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        load_templates(name)


def test_templates_from_python() -> None:
    assert make_templates(None) == load_templates(DEFAULT_SET)
    assert make_templates("faces") == load_templates("faces")
    assert make_templates("a drawing of a {}") == ("a drawing of a <>",)
    assert make_templates(["<>", "the {}"]) == ("<>", "the <>")
    with pytest.raises(TemplateError, match="templates, template 2: the template 'faces'"):
        make_templates(["<>", "faces"])


def test_templates_from_flags() -> None:
    assert collect_templates() == load_templates(DEFAULT_SET)
    assert collect_templates(single=["{} here"]) == ("<> here",)
    assert collect_templates(named="plain") == ("<>",)
    assert collect_templates(single=["{} here"], named="plain") == ("<> here", "<>")


# --- prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wording", "template", "expected"),
    [
        ("cat", "a photo of a <>", "a photo of a cat"),
        ("owl", "a photo of a <>", "a photo of a owl"),
        ("a person", "a photo of a <>", "a photo of a person"),
        ("an owl", "a photo of the <>.", "a photo of an owl."),
        ("The Hague", "A <>.", "The Hague."),
        ("a person", "a photo of a large <>", "a photo of a large a person"),
        ("a person", "a <> or the <>", "a person or a person"),
        ("a", "a photo of a <>", "a photo of a a"),
        ("another dog", "a photo of a <>", "a photo of a another dog"),
        ("ant", "a photo of an <>", "a photo of an ant"),
        ("a dog", "vitamin-a <>", "vitamin-a a dog"),
        ("a dog", "a cafeteria <>", "a cafeteria a dog"),
        (r"a \1 <>", "a <>", r"a \1 <>"),
        ("<>", "a <> <>", "a <> <>"),
    ],
)
def test_filling_a_template(wording: str, template: str, expected: str) -> None:
    assert prompts_of(wording, template) == (expected,)


@given(WORDING)
def test_without_an_article_the_text_is_only_put_in_place(wording: str) -> None:
    assert prompts_of(wording, "<>!") == (f"{wording}!",)
    assert prompts_of(f"some {wording}", "a <>.") == (f"a some {wording}.",)


def test_prompts_keep_the_order_and_are_unique_within_a_label() -> None:
    labels = make_labels({"cat": ["cat", "kitten", "cat"], "dog": "a dog"})
    prompts = build_prompts(labels, ["a <>", "the <>", "a {}"])
    assert prompts.labels == ("cat", "dog")
    assert prompts.prompts == (("a cat", "a kitten", "the cat", "the kitten"), ("a dog",))
    assert prompts.flat() == ["a cat", "a kitten", "the cat", "the kitten", "a dog"]


def test_labels_that_no_model_can_tell_apart() -> None:
    with pytest.raises(LabelError, match=r"'x_y' and 'x-y' have the same prompts \('the x y'\)"):
        build_prompts(make_labels(["x_y", "z", "x-y"]), ["the <>"])
    with pytest.raises(LabelError, match="same prompts"):
        build_prompts(make_labels({"a": ["x", "y"], "b": ["y", "x"]}), ["<>"])
    shared = build_prompts(make_labels({"a": ["x", "y"], "b": ["y", "z"]}), ["<>"])
    assert shared.flat() == ["x", "y", "y", "z"]


@pytest.mark.parametrize("templates", [[], ["a photo"]])
def test_templates_are_checked_once_more(templates: list[str]) -> None:
    with pytest.raises(TemplateError):
        build_prompts(make_labels("a,b"), templates)


def test_the_fingerprint_knows_labels_prompts_and_their_order() -> None:
    base = PromptSet(("a", "b"), (("x",), ("y", "z")))
    others = [
        PromptSet(("a", "c"), base.prompts),
        PromptSet(("b", "a"), base.prompts),
        PromptSet(base.labels, (("x", "y"), ("z",))),
        PromptSet(base.labels, (("x",), ("z", "y"))),
    ]
    assert base.fingerprint() == PromptSet(("a", "b"), (("x",), ("y", "z"))).fingerprint()
    assert len({base.fingerprint(), *(other.fingerprint() for other in others)}) == 5
