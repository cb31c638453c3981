"""`--unknown`: the words that compete with labels, and what becomes of an image of none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcls import Classifier, Prediction, ScoringOptions, UnknownOptions
from clipcls.errors import LabelError, ModelError, OptionError
from clipcls.lexicon import lexicon
from clipcls.options import Calibration
from clipcls.scoring import Float32, unknown_share
from clipcls.testing import FakeEncoder, colour_image
from clipcls.unknown import NEAREST, competing_words, embed_words

UNRELATED = {"house", "tree", "bread"}


def asked(own: tuple[str, ...], threshold: float | None = None) -> ScoringOptions:
    return ScoringOptions(unknown=UnknownOptions(own, threshold))


# --- which words ----------------------------------------------------------------------------------


def test_words_related_to_a_label_do_not_compete_with_it() -> None:
    words = set(competing_words(None, ["dog", "a truck"]))
    assert words >= UNRELATED
    # Labels, a synonym of one of their senses, hyponyms and hypernyms.
    for word in ("dog", "fellow", "bloodhound", "animal", "truck", "pickup", "vehicle"):
        assert word in lexicon().words
        assert word not in words


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(lexicon().words), min_size=1, max_size=4))
def test_no_label_is_among_the_words_that_compete(labels: list[str]) -> None:
    try:
        words = set(competing_words(None, labels))
    except OptionError:
        return
    assert not words & lexicon().related(labels)
    assert not words & set(labels)


def test_labels_that_mean_nearly_everything_are_refused() -> None:
    with pytest.raises(OptionError, match="only .* words mean something else.*--unknown-words"):
        competing_words(None, ["object", "thing", "matter", "process", "group"])


def test_of_own_words_only_labels_are_left_out() -> None:
    own = ("Dog", "bloodhound", "fire-truck", "tree")
    assert competing_words(own, ["dog", "fire truck"]) == ("bloodhound", "tree")
    with pytest.raises(OptionError, match="nothing but labels"):
        competing_words(("dog", "DOG"), ["dog"])


def test_the_nearest_words_are_left_out_in_the_order_of_the_rest(encoder: FakeEncoder) -> None:
    words = [*(f"word {i}" for i in range(39)), "red"]
    classes = encoder.encode_texts(["red"])
    found = embed_words(encoder, words, "<>", classes, lambda _: None)
    everything = encoder.encode_texts(words)
    assert len(found) == len(words) - int(NEAREST * len(words))
    nearness = (everything @ classes.T).ravel()
    kept = np.sort(np.argsort(nearness)[: len(found)])
    np.testing.assert_array_equal(found, everything[kept])
    assert not np.isclose(found @ classes[0], 1.0).any()


def test_words_go_into_the_first_template_like_labels() -> None:
    class Listening(FakeEncoder):
        heard: list[str] = []

        def encode_texts(self, prompts: Sequence[str]) -> Float32:
            self.heard.extend(prompts)
            return super().encode_texts(prompts)

    encoder = Listening()
    options = asked(("tree", "a fire engine"))
    templates = ["a photo of a <>", "art of <>"]
    _ = Classifier("red,blue", model=encoder, templates=templates, scoring=options).scorer
    assert encoder.heard[-2:] == ["a photo of a tree", "a photo of a fire engine"]


def test_words_without_finite_numbers_are_an_error() -> None:
    class Broken(FakeEncoder):
        def encode_texts(self, prompts: Sequence[str]) -> Float32:
            rows = super().encode_texts(prompts)
            rows[["tree" in prompt for prompt in prompts]] = np.nan
            return rows

    with pytest.raises(ModelError, match="no finite numbers for words"):
        _ = Classifier("red,blue", model=Broken(), scoring=asked(("tree",))).scorer


# --- the share ------------------------------------------------------------------------------------

SIMILARITIES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=6)


@given(SIMILARITIES, SIMILARITIES, st.floats(1, 200))
def test_the_share_is_that_of_a_softmax_with_equal_weight_for_both_sides(
    labels: list[float], words: list[float], scale: float
) -> None:
    known, other = np.exp(scale * np.array(labels)), np.exp(scale * np.array(words))
    expected = other.mean() / (other.mean() + known.mean())
    found = unknown_share(np.array(labels, np.float32), np.array(words, np.float32), scale)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(SIMILARITIES, st.integers(1, 9))
def test_it_does_not_depend_on_how_many_words_there_are(labels: list[float], times: int) -> None:
    known, words = np.array(labels, np.float32), np.array([0.1, 0.4], np.float32)
    one = unknown_share(known, words, 20.0)
    assert unknown_share(known, np.tile(words, times), 20.0) == pytest.approx(one, abs=1e-12)
    assert unknown_share(known, known, 20.0) == 0.5


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "prediction"), [("red", "red"), ("yellow", "unknown")])
def test_an_image_nearer_to_the_words_is_unknown(
    encoder: FakeEncoder, colour: str, prediction: str
) -> None:
    classifier = Classifier("red,blue", model=encoder, scoring=asked(("yellow", "green")))
    found = classifier(colour_image(colour))
    plain = Classifier("red,blue", model=encoder)(colour_image(colour))
    assert found.prediction == prediction
    assert found.p_unknown is not None
    assert (found.p_unknown > 0.5) == (prediction == "unknown")
    # Nothing else is another than without.
    np.testing.assert_array_equal(found.probabilities, plain.probabilities)
    assert (found.probability, plain.p_unknown) == (plain.probability, None)


def test_a_given_threshold_goes_before_that_of_a_calibration() -> None:
    fitted = Calibration("m", "f", (("a", ("a",)),), 1.0, unknown_threshold=0.2)
    unknown = UnknownOptions()
    assert ScoringOptions(unknown=unknown).most_unknown == 0.5
    assert ScoringOptions(unknown=unknown, calibration=fitted).most_unknown == 0.2
    own = UnknownOptions(threshold=0.9)
    assert ScoringOptions(unknown=own, calibration=fitted).most_unknown == 0.9


def test_the_threshold_decides(encoder: FakeEncoder) -> None:
    def predicted(threshold: float) -> Prediction:
        options = asked(("yellow", "green"), threshold)
        return Classifier("red,blue", model=encoder, scoring=options)(colour_image("yellow"))

    share = predicted(1.0).p_unknown
    assert share is not None
    assert predicted(1.0).prediction != "unknown"
    assert predicted(share).prediction != "unknown"
    assert predicted(share - 1e-9).prediction == "unknown"


def test_what_contradicts_is_refused() -> None:
    with pytest.raises(OptionError, match="--unknown and --multi-label contradict"):
        ScoringOptions(multi_label=True, unknown=UnknownOptions())
    with pytest.raises(OptionError, match="--unknown-threshold is 1.5"):
        UnknownOptions(threshold=1.5)
    with pytest.raises(LabelError, match="'unknown' could not be told"):
        Classifier("cat,unknown", model=FakeEncoder(), scoring=asked(("tree",)))


def test_own_words_are_described_by_their_digest() -> None:
    one, other = UnknownOptions(("a", "b")), UnknownOptions(("b", "a"))
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == UnknownOptions(("a", "b")).fingerprint()
    assert UnknownOptions().described() == {"words": None, "threshold": None}
