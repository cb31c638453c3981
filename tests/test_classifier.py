"""The front door from Python."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcls import Classifier, DecodeOptions, Failure, Prediction, RuntimeOptions, ScoringOptions
from clipcls.errors import (
    CalibrationError,
    DecodeError,
    LabelError,
    ModelError,
    OptionError,
    TemplateError,
    UnknownModelError,
)
from clipcls.models.names import ModelSpec, Published, resolve_model
from clipcls.options import Calibration
from clipcls.testing import FakeEncoder, colour_image, save_colours
from tests.hub_cache import HubCache, hub_cache

__all__ = ["hub_cache"]

RUNTIME = RuntimeOptions(device="cpu", batch_size=2, workers=2)


def classifier(labels: object = ("red", "green", "blue"), **options: object) -> Classifier:
    options.setdefault("model", FakeEncoder())
    options.setdefault("runtime", RUNTIME)
    return Classifier(labels, **options)  # type: ignore[arg-type]


def test_a_path_bytes_and_a_picture_give_the_same_prediction(tmp_path: Path) -> None:
    path = save_colours(tmp_path, ["blue"])[0]
    model = classifier()
    by_path, by_text = model(path), model(str(path))
    by_bytes, by_image = model(path.read_bytes()), model(colour_image("blue"))
    assert by_path.prediction == "blue"
    assert (by_path.path, by_text.path, by_image.path) == (str(path), str(path), "")
    for other in (by_text, by_bytes, by_image):
        np.testing.assert_array_equal(other.probabilities, by_path.probabilities)
    assert by_path.ranking(1) == [("blue", by_path.probability)]
    assert [label for label, _ in by_path.ranking()][0] == "blue"


def test_classify_takes_files_and_folders_in_order_and_keeps_failures(colours: Path) -> None:
    paths = [colours / "2-blue.png", colours / "none.png", colours]
    records = list(classifier().classify(paths))
    assert [record.index for record in records] == list(range(8))
    assert isinstance(records[0], Prediction)
    assert records[0].prediction == "blue"
    assert records[1] == Failure(1, str(colours / "none.png"), "file not found")
    # The picture that was named before is not scored again.
    assert [Path(r.path).name[0] for r in records[2:]] == list("013456")


def test_an_empty_folder_among_others_ends_nothing(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(list(classifier().classify([tmp_path / "empty", colours]))) == 7
    assert list(classifier().classify([])) == []


def test_what_a_model_name_left_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcls.classifier.load_encoder", lambda *args: FakeEncoder())
    monkeypatch.setattr(Published, "checkpoint", lambda spec, tell: Path("weights"))
    monkeypatch.setattr(Published, "fingerprint", lambda spec, precision, decode: spec.name)
    with pytest.warns(UserWarning, match="ViT-B-32"):
        assert classifier(model="ViT-B-32").encoder


def test_a_user_who_names_no_model_is_told_of_mini(
    hub_cache: HubCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(spec: ModelSpec, *_: object) -> FakeEncoder:
        loaded.append(spec.name)
        return FakeEncoder()

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    for model in (None, "auto", resolve_model("auto")):
        with pytest.warns(UserWarning, match="mini, .* HF_HUB_OFFLINE is set") as caught:
            assert classifier(model=model).encoder.dim
        assert len(caught) == 1
    assert classifier(model="mini").encoder.dim  # without a warning
    assert loaded == ["mini"] * 4


def test_a_threshold_and_a_label_called_unknown_do_not_mix() -> None:
    with pytest.raises(LabelError, match="could not be told from a rejected image"):
        classifier(["red", "unknown"], scoring=ScoringOptions(threshold=0.5))


def test_a_model_without_finite_numbers_is_an_error() -> None:
    class Overflowing(FakeEncoder):
        def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
            return super().encode_texts(prompts) * np.float32(np.nan)

    with pytest.raises(ModelError, match="no finite numbers for the prompts"):
        classifier(model=Overflowing())(colour_image("red"))


def test_a_single_path_is_not_taken_apart_into_letters(colours: Path) -> None:
    assert len(list(classifier().classify(str(colours / "0-red.png")))) == 1
    assert len(list(classifier().classify(colours))) == 7


def test_classify_is_lazy(colours: Path) -> None:
    encoder = FakeEncoder()
    records = classifier(model=encoder).classify(colours)
    assert encoder.batch_sizes == []
    next(records)
    assert encoder.batch_sizes == [2]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("red,dark blue", ("red", "dark blue")),
        (["red", "blue"], ("red", "blue")),
        ({"warm": "red", "cold": ["blue", "green"]}, ("warm", "cold")),
    ],
)
def test_labels_come_as_text_list_or_mapping(labels: object, expected: tuple[str, ...]) -> None:
    model = classifier(labels)
    assert model.labels == expected
    assert model(colour_image("red")).prediction == expected[0]


def test_a_string_is_one_label_and_not_its_letters() -> None:
    with pytest.warns(UserWarning, match="'cat' is the only label"):
        assert classifier("cat")(colour_image("red")).labels == ("cat",)


def test_templates_come_as_set_or_texts() -> None:
    assert classifier(templates="plain").prompts.prompts[0] == ("red",)
    model = classifier(templates=["a {} wall", "<>"])
    assert model.prompts.prompts[0] == ("a red wall", "red")
    with pytest.raises(TemplateError):
        classifier(templates=["no slot"])


def test_options_reach_the_scores() -> None:
    strict = classifier(scoring=ScoringOptions(threshold=1.0))
    assert strict(colour_image("yellow")).prediction == "unknown"
    small = classifier(decode=DecodeOptions(max_megapixels=0.0001))
    with pytest.raises(DecodeError, match="megapixels"):
        small(colour_image("red"))


def test_nothing_is_loaded_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(spec: ModelSpec, *_: object) -> FakeEncoder:
        raise AssertionError("loaded")

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    model = classifier(model="mini")
    assert (model.name, model.labels[0]) == ("mini", "red")
    with pytest.raises(AssertionError, match="loaded"):
        model(colour_image("red"))


def test_wrong_arguments_are_named_before_a_model_is_loaded() -> None:
    with pytest.raises(LabelError):
        classifier([])
    with pytest.raises(UnknownModelError, match="ViT-B-32"):
        classifier(model="ViT-B-23")


def test_a_picture_that_cannot_be_decoded_is_an_error() -> None:
    with pytest.raises(DecodeError):
        classifier()(b"not a picture")


def test_nothing_is_printed(colours: Path, capfd: pytest.CaptureFixture[str]) -> None:
    list(classifier().classify(colours))
    with pytest.raises(DecodeError):
        classifier()(io.BytesIO().getvalue())
    assert capfd.readouterr() == ("", "")


# --- calibrations ---------------------------------------------------------------------------------

TEMPLATES = ("a <>", "the <>")


def fitted(**changes: object) -> ScoringOptions:
    values: dict[str, object] = {
        "model": "fake",
        "model_fingerprint": FakeEncoder().fingerprint,
        "prompts": tuple((c, (f"a {c}", f"the {c}")) for c in ("red", "green", "blue")),
        "temperature": 2.0,
    }
    return ScoringOptions(calibration=Calibration(**{**values, **changes}))  # type: ignore[arg-type]


def test_a_calibration_softens_what_it_was_fitted_for() -> None:
    image = colour_image("yellow")
    before = classifier(templates=TEMPLATES)(image)
    after = classifier(templates=TEMPLATES, scoring=fitted())(image)
    np.testing.assert_allclose(after.logits, before.logits / 2, rtol=1e-6)
    assert after.prediction == before.prediction
    assert after.probability < before.probability
    strict = classifier(templates=TEMPLATES, scoring=fitted(threshold=0.999))
    assert strict(image).prediction == "unknown"


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        (("red", "green"), TEMPLATES, "the labels red, green, blue, and these are red, green:"),
        (("blue", "green", "red"), TEMPLATES, "red, green, blue, and these are blue, green, red:"),
        ({"red": "red", "green": "green", "blue": "navy"}, TEMPLATES, "'a blue' and is now 'a n"),
        (("red", "green", "blue"), ("<>", "the <>"), "of 'red' it was 'a red' and is now 'red'"),
        (("red", "green", "blue"), ("a <>", "my <>"), "it was 'the red' and is now 'my red'"),
        (("red", "green", "blue"), ("a <>",), r"'the red' and is now 'a red' \(2 and 1 in all\)"),
        (("red", "green", "blue"), (*TEMPLATES, "<>!"), r"now 'red!' \(2 and 3 in all\)"),
    ],
)
def test_a_calibration_for_other_labels_or_prompts_is_refused(
    labels: object, templates: tuple[str, ...], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message) as caught:
        classifier(labels, templates=templates, scoring=fitted())
    assert str(caught.value).startswith("--calibration was fitted for ")
    assert str(caught.value).endswith(": run clipcls calibrate again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "other", "model_fingerprint": "x"}, "the model other, and this run uses fake"),
        (
            {"model_fingerprint": "x"},
            "the model fake with other weights, preprocessing, --fit or --decode",
        ),
    ],
)
def test_a_calibration_for_another_model_is_refused(
    changes: dict[str, object], message: str
) -> None:
    model = classifier(templates=TEMPLATES, scoring=fitted(**changes))
    for _ in range(2):
        with pytest.raises(CalibrationError, match=f"fitted for {message}: run clipcls calibrate"):
            model(colour_image("red"))


def test_a_calibration_for_another_model_stays_refused_after_the_first_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clipcls.classifier.load_encoder", lambda *args: FakeEncoder())
    model = classifier(model="mini", templates=TEMPLATES, scoring=fitted())
    for _ in range(2):
        with pytest.raises(CalibrationError, match="the model fake, and this run uses mini"):
            model(colour_image("red"))


def test_a_calibration_and_several_labels_contradict_each_other() -> None:
    with pytest.raises(OptionError, match="--calibration and --multi-label contradict"):
        ScoringOptions(multi_label=True, calibration=fitted().calibration)
