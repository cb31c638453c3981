"""Variants as users write them, and the questions that they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipcls.errors import OptionError, UsageError
from clipcls.evaluation.compare import Variant
from clipcls.evaluation.variants import Changes, make_variants, read_variants
from clipcls.labels import make_labels
from clipcls.options import RuntimeOptions, ScoringOptions
from clipcls.prompts import load_templates
from clipcls.question import ModelChoice, Question

BASE = Variant(
    "base",
    Question(make_labels("cat,dog"), ("a photo of a <>",), ScoringOptions(threshold=0.5)),
    ModelChoice("mini", "RN50", RuntimeOptions(device="cpu")),
)


def toml(folder: Path, text: str) -> Path:
    path = folder / "variants.toml"
    path.write_text(text, encoding="utf-8-sig")
    return path


# ---- the command line


def test_a_value_is_taken_to_its_end() -> None:
    found = read_variants(["a b:template= x=<>, y:z ", "c.1+=-:labels=cat=a:b|c,dog"])
    assert found == {
        "a b": Changes(templates=("x=<>, y:z",)),
        "c.1+=-": Changes(labels=make_labels({"cat": ["a:b", "c"], "dog": "dog"})),
    }


def test_the_same_name_adds_keys_and_templates() -> None:
    texts = ["a:template=<>", "b:model=x", "a : model = y ", "a:template={} here", "a:arch=z"]
    found = read_variants(texts)
    assert list(found) == ["a", "b"]
    assert found["a"].templates == ("<>", "<> here")
    assert (found["a"].model, found["a"].architecture) == (" y ", "z")


def test_templates_of_both_keys_are_joined() -> None:
    found = read_variants(["a:templates=photo", "a:template=my <>"])["a"]
    assert found.templates == ("my <>", *load_templates("photo"))
    assert read_variants(["a:templates=photo"])["a"].templates == load_templates("photo")


def test_labels_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("cat=kitten\ndog\n")
    found = read_variants([f"a:labels-file={file}"])["a"]
    assert found == Changes(labels=make_labels({"cat": "kitten", "dog": "dog"}))


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a:", "a:template", "template=<>", ":template=<>", "a=template:<>"),
        *("a:colour=red", "a:Template=<>", "../a:template=<>", ".a:model=x", "a/b:model=x"),
        *("a:model=", "a:templates= ", "a:labels-file=", "a:labels=", "a\nb:model=x"),
    ],
)
def test_what_is_no_variant_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_variants([text])
    message = str(caught.value)
    assert "is not NAME:KEY=VALUE with one of the keys labels, labels-file, template," in message
    assert "such as 'short:template=<>'" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a:model=x", "a:model=y"], "--variant a has two values for model: give one"),
        (["a:labels=x", "a:labels=y"], "two values for labels"),
        (["a:labels=x", "a:labels-file=y"], "'a' has labels and labels-file: give one"),
        (["a:template=no slot"], "the variant 'a': .* has no slot"),
        (["b:model=x", "a:labels=cat,cat"], "the variant 'a': .* 'cat' is already there"),
        (["a:templates=none"], "the variant 'a': "),
        (["a:labels-file=none.txt"], "the variant 'a': none.txt: cannot be read"),
    ],
)
def test_a_variant_that_cannot_be_used_is_named(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_variants(texts)


# ---- the file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('labels = "cat=a cat|kitten,dog"', Changes(make_labels("cat=a cat|kitten,dog"))),
        ('labels = ["cat", "a,b"]', Changes(make_labels(["cat", "a,b"]))),
        (
            'labels = { cat = "kitten", dog = ["puppy", "hound"] }',
            Changes(make_labels({"cat": "kitten", "dog": ["puppy", "hound"]})),
        ),
        ('template = "a <>"', Changes(templates=("a <>",))),
        ('template = ["a <>", "{}"]', Changes(templates=("a <>", "<>"))),
        ('model = "mini"\narch = "RN50"', Changes(model="mini", architecture="RN50")),
    ],
)
def test_the_forms_of_the_file(tmp_path: Path, text: str, expected: Changes) -> None:
    assert read_variants([], toml(tmp_path, f'["größer 2"]\n{text}\n')) == {"größer 2": expected}


def test_the_file_comes_after_the_flags(tmp_path: Path) -> None:
    file = toml(tmp_path, '[b]\nmodel = "x"\n[a]\nmodel = "y"\n')
    assert list(read_variants(["c:model=z"], file)) == ["c", "b", "a"]
    with pytest.raises(OptionError, match="the variant 'a' is given twice"):
        read_variants(["a:model=z"], file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a\n", "variants.toml: not valid TOML: "),
        ('[a]\nmodel = "x"\n[a]\nmodel = "y"', "not valid TOML: "),
        ('model = "x"', r"'model' is no table \[model\] with the keys labels, labels-file"),
        ('[a]\ncolour = "x"', r"'a' is no table \[a\] with the keys"),
        ("[a]\nmodel = 1", r"model of \[a\] must be a text"),
        ('[a]\ntemplates = ["x"]', r"templates of \[a\] must be a text"),
        ('[a]\ntemplates = ""', r"templates of \[a\] must be a text"),
        ('["../a"]\nmodel = "x"', "'../a' is no name: letters, digits"),
        ('[""]\nmodel = "x"', "'' is no name"),
        ("[a]\ntemplate = 1", "template of the variant 'a' must be a text or a list of texts"),
        ('[a]\ntemplate = ["<>", 1]', "must be a text or a list of texts"),
        ("[a]\ntemplate = []", "the template of the variant 'a' is an empty list"),
        ('[a]\ntemplate = ""', "the variant 'a': .* has no slot"),
        ("[a]\nlabels = 3", "the variant 'a': labels: a int holds no labels"),
        ("[a]\nlabels = []", "the variant 'a': no labels"),
        ("[a]\nlabels = { cat = 3 }", "the variant 'a': .* a text or a list of texts"),
        ('[a]\nlabels = "x"\nlabels-file = "y"', "'a' has labels and labels-file: give one"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_variants([], toml(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="none.toml: cannot be read"):
        read_variants([], tmp_path / "none.toml")


# ---- the questions


def test_without_variants_the_base_is_alone() -> None:
    assert make_variants(BASE, {}) == (BASE,)


def test_a_single_variant_gets_the_base_beside_it() -> None:
    first, second = make_variants(BASE, {"short": Changes(templates=("<>",))})
    assert first == BASE
    assert second.name == "short"
    assert second.question.templates == ("<>",)
    assert second.question.labels == BASE.question.labels
    assert second.question.scoring == BASE.question.scoring
    assert second.model == BASE.model


def test_several_variants_stand_alone_in_their_order() -> None:
    changes = {"b": Changes(templates=("<>",)), "base": Changes(), "a": Changes(model="x")}
    assert [variant.name for variant in make_variants(BASE, changes)] == ["b", "base", "a"]


def test_the_only_variant_may_not_have_the_name_of_the_base() -> None:
    with pytest.raises(OptionError, match="the only variant is named 'base'.*: rename it"):
        make_variants(BASE, {"base": Changes(model="x")})


def test_labels_keep_the_order_of_the_base() -> None:
    changes = {"a": Changes(labels=make_labels("dog=puppy,cat=kitten"))}
    labels = make_variants(BASE, changes)[1].question.labels
    assert [(label.name, label.wordings) for label in labels] == [
        ("cat", ("kitten",)),
        ("dog", ("puppy",)),
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat", "'dog' is missing in the variant 'a'"),
        ("cat,dog,cow", "'cow' is only in the variant 'a'"),
        ("cat,Dog", "'Dog' is only in the variant 'a' .label=wording gives a label its own text"),
    ],
)
def test_other_labels_are_refused(labels: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_variants(BASE, {"a": Changes(labels=make_labels(labels))})


def test_another_model_does_not_keep_the_architecture() -> None:
    runtime = BASE.model.runtime
    changes = {
        "model": Changes(model="x"),
        "both": Changes(model="x", architecture="y"),
        "arch": Changes(architecture="z"),
    }
    assert [variant.model for variant in make_variants(BASE, changes)] == [
        ModelChoice("x", None, runtime),
        ModelChoice("x", "y", runtime),
        ModelChoice("mini", "z", runtime),
    ]
