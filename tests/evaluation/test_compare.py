"""Variants over the same images: embedded once, told apart only beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from clipcls.errors import OptionError
from clipcls.evaluation.bootstrap import Bools
from clipcls.evaluation.compare import Outcome, Variant, compare, holm, mcnemar, score_variants
from clipcls.evaluation.join import JoinReport
from clipcls.evaluation.truth import Truth
from clipcls.inputs.refs import ImageRef
from clipcls.labels import make_labels
from clipcls.options import DecodeOptions, RuntimeOptions, ScoringOptions
from clipcls.question import ModelChoice, Question
from clipcls.records import Failure
from clipcls.testing import FakeEncoder, save_colours
from tests.evaluation.made import multi_label_example, multi_label_outcome, outcome_of

LABELS = make_labels(["red", "green", "blue"])
RUNTIME = RuntimeOptions(device="cpu", batch_size=2, workers=1)
COLOURS = ["red", "green", "blue", "red", "blue"]


def variant(name: str, *templates: str, word: str = "mini", multi_label: bool = False) -> Variant:
    question = Question(LABELS, templates or ("<>",), ScoringOptions(multi_label=multi_label))
    return Variant(name, question, ModelChoice(word, runtime=RUNTIME))


def truth_of(paths: Sequence[Path], values: Sequence[str]) -> Truth:
    refs = tuple(ImageRef(i, str(path)) for i, path in enumerate(paths))
    return Truth(LABELS, refs, tuple(tuple(v.split(";")) for v in values), JoinReport())


def scored(truth: Truth, *variants: Variant, encoder: FakeEncoder | None = None) -> list[Outcome]:
    return score_variants(truth, variants, DecodeOptions(), encoder=encoder or FakeEncoder())


def right_where(right: Bools, name: str) -> Outcome:
    logits = np.where(right[:, None], [[2.0, 0]], [[0, 2.0]])
    return outcome_of(logits, np.zeros(len(right), dtype=int), name=name)


# --- scoring --------------------------------------------------------------------------------------


def test_variants_of_a_model_embed_each_image_once(tmp_path: Path) -> None:
    truth = truth_of(save_colours(tmp_path, COLOURS), COLOURS)
    one, three = FakeEncoder(), FakeEncoder()
    scored(truth, variant("a"), encoder=one)
    scored(truth, variant("a"), variant("b", "a <>"), variant("c", "<>!", "no <>"), encoder=three)
    assert three.batch_sizes == one.batch_sizes == [2, 2, 1]


def test_a_model_is_loaded_once_for_all_of_its_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[FakeEncoder] = []

    def load(*_: object) -> FakeEncoder:
        loaded.append(FakeEncoder())
        return loaded[-1]

    monkeypatch.setattr("clipcls.classifier.load_encoder", load)
    truth = truth_of(save_colours(tmp_path, COLOURS), COLOURS)
    variants = [variant("a"), variant("b", "a <>"), variant("c", "the <>")]
    assert len(score_variants(truth, variants, DecodeOptions())) == 3
    assert [encoder.batch_sizes for encoder in loaded] == [[2, 2, 1]]


def test_outcomes_come_in_the_order_given_also_across_models(tmp_path: Path) -> None:
    truth = truth_of(save_colours(tmp_path, COLOURS), COLOURS)
    encoder = FakeEncoder()
    variants = [variant("z"), variant("b", word="ViT-B-32"), variant("a", "a <>"), variant("c")]
    outcomes = scored(truth, *variants, encoder=encoder)
    assert [outcome.name for outcome in outcomes] == ["z", "b", "a", "c"]
    assert sum(encoder.batch_sizes) == 2 * len(COLOURS)
    for outcome in outcomes:
        assert [record.path for record in outcome.records] == [ref.path for ref in truth.refs]
        assert outcome.metrics().headline["accuracy"].value == 1.0


def test_an_outcome_knows_what_made_it(tmp_path: Path) -> None:
    truth = truth_of(save_colours(tmp_path, COLOURS), COLOURS)
    first, second = scored(truth, variant("a"), variant("b", "a <>", "the <>"))
    assert first.made_by["prompts"]["red"] == ("red",)
    assert second.made_by["prompts"]["red"] == ("a red", "the red")
    for outcome in (first, second):
        assert outcome.made_by["model"]["name"] == "fake"
        assert outcome.made_by["model_fingerprint"] == FakeEncoder().fingerprint
        assert outcome.made_by["scoring"]["threshold"] is None


def test_a_broken_image_is_a_failure_of_all_and_counted_in_no_figure(tmp_path: Path) -> None:
    paths = save_colours(tmp_path, COLOURS)
    paths[1].write_bytes(b"")
    outcomes = scored(truth_of(paths, COLOURS), variant("a"), variant("b", "a <>"))
    for outcome in outcomes:
        assert [(f.index, f.reason) for f in outcome.failures] == [(1, "empty file")]
        assert outcome.scores().paths == tuple(str(paths[i]) for i in (0, 2, 3, 4))
        assert outcome.metrics().images == 4
    assert compare(outcomes).images == 4


def test_nothing_scored_is_one_line(tmp_path: Path) -> None:
    paths = save_colours(tmp_path, ["red", "blue"])
    for path in paths:
        path.write_bytes(b"")
    [outcome] = scored(truth_of(paths, ["red", "blue"]), variant("a"))
    with pytest.raises(OptionError, match=r"none of the 2 images could be scored: .*0-red.png: em"):
        outcome.metrics()


def test_several_labels_of_an_image_are_truth_too(tmp_path: Path) -> None:
    truth = truth_of(save_colours(tmp_path, ["red", "green"]), ["red;blue", "green"])
    [outcome] = scored(truth, variant("a", multi_label=True))
    assert outcome.truth_matrix().tolist() == [[True, False, True], [False, True, False]]
    assert "mean_average_precision" in outcome.metrics().headline


# --- the tests of chance --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((0, 0), 1.0), ((5, 5), 1.0), ((10, 2), 158 / 4096), ((0, 6), 2 / 64), ((121, 59), 4.434e-6)],
)
def test_mcnemars_test_is_the_exact_one(counts: tuple[int, int], expected: float) -> None:
    assert mcnemar(*counts) == pytest.approx(expected, rel=1e-3)
    assert mcnemar(*counts[::-1]) == pytest.approx(expected, rel=1e-3)
    if total := sum(counts):
        assert mcnemar(*counts) == binomtest(counts[0], total).pvalue
        tail = sum(math.comb(total, k) for k in range(min(counts) + 1)) / 2**total
        assert mcnemar(*counts) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.01], [1.0, 1.0, 0.03]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holms_method_adjusts_for_the_number_of_pairs(
    p_values: list[float], expected: list[float]
) -> None:
    assert holm(p_values) == pytest.approx(expected)


# --- the comparison -------------------------------------------------------------------------------


def test_a_clear_winner_is_named() -> None:
    place = np.arange(200)
    found = compare(
        [
            right_where(place < 100, "poor"),
            right_where(place < 180, "good"),
            right_where(place < 130, "fair"),
        ]
    )
    assert (found.figure, found.images) == ("accuracy", 200)
    assert found.ranking == ("good", "fair", "poor")
    assert (found.winner, found.rivals) == ("good", ())
    assert [(p.first, p.second) for p in found.pairs] == [
        ("good", "fair"),
        ("good", "poor"),
        ("fair", "poor"),
    ]
    pair = found.pairs[0]
    assert (pair.only_first, pair.only_second) == (50, 0)
    assert pair.difference.value == pytest.approx(0.25)
    assert 0.15 < pair.difference.low < 0.25 < pair.difference.high < 0.35
    assert pair.p_value == pytest.approx(2**-49 * 2)


def test_equals_have_no_winner_and_the_rival_is_named() -> None:
    place = np.arange(100)
    found = compare([right_where(place < 80, "a"), right_where(place >= 20, "b")])
    assert (found.winner, found.rivals) == (None, ("b",))
    assert found.pairs[0].p_value == 1.0
    same = compare([right_where(place < 80, name) for name in "abc"])
    assert (same.winner, same.ranking, same.rivals) == (None, ("a", "b", "c"), ("b", "c"))


def test_a_rival_of_the_best_denies_the_win_over_the_rest() -> None:
    place = np.arange(300)
    found = compare(
        [
            right_where(place < 60, "poor"),
            right_where(place < 200, "good"),
            right_where(place < 202, "too"),
        ]
    )
    assert (found.ranking[0], found.winner, found.rivals) == ("too", None, ("good",))


def test_a_winner_among_equals_is_rarely_named() -> None:
    rng = np.random.default_rng(0)
    winners = sum(
        compare([right_where(rng.random(60) < 0.7, name) for name in "abc"]).winner is not None
        for _ in range(150)
    )
    assert winners <= 0.05 * 150 + 6


def test_images_that_one_could_not_score_are_left_out_of_all() -> None:
    logits = np.tile([2.0, 0.0], (50, 1))
    truth = np.zeros(50, dtype=int)
    first = outcome_of(logits, truth, name="a", failed=range(5))
    second = outcome_of(-logits, truth, name="b", failed=range(3, 9))
    found = compare([first, second])
    assert found.images == 41
    assert (found.pairs[0].only_first, found.pairs[0].only_second) == (41, 0)
    with pytest.raises(OptionError, match="no image was scored by all"):
        compare([first, outcome_of(logits, truth, name="b", failed=range(5, 50))])


def test_a_single_outcome_wins_against_nobody() -> None:
    found = compare([right_where(np.ones(3, dtype=bool), "a")])
    assert (found.winner, found.pairs) == ("a", ())


def test_several_labels_are_compared_by_mean_average_precision() -> None:
    truth, probabilities = multi_label_example(4, images=150)
    noise = np.random.default_rng(1).random(probabilities.shape)
    good, poor = (
        multi_label_outcome(truth, p, name=name, failed=[3])
        for name, p in (("good", probabilities), ("poor", noise))
    )
    found = compare([poor, good])
    assert (found.figure, found.ranking, found.winner) == (
        "mean_average_precision",
        ("good", "poor"),
        "good",
    )
    [pair] = found.pairs
    values = [o.metrics().headline["mean_average_precision"].value for o in (good, poor)]
    assert pair.difference.value == pytest.approx(values[0] - values[1])
    assert pair.difference.low < pair.difference.value < pair.difference.high
    assert (pair.only_first, pair.only_second) == (None, None)
    same = compare([good, multi_label_outcome(truth, probabilities, name="same", failed=[3])])
    assert (same.winner, same.rivals) == (None, ("same",))


def test_a_winner_among_equals_of_several_labels_is_rarely_named() -> None:
    rng = np.random.default_rng(0)
    winners = 0
    for seed in range(60):
        truth, one = multi_label_example(2, images=60, seed=seed)
        other = 1 / (1 + np.exp(0.5 - truth - rng.normal(0, 1, truth.shape)))
        outcomes = [multi_label_outcome(truth, p, name=n) for n, p in (("a", one), ("b", other))]
        winners += compare(outcomes).winner is not None
    assert winners <= 0.05 * 60 + 5


def test_a_resample_without_examples_says_nothing_about_the_order() -> None:
    truth = np.array([[True], [False], [False]])
    first, second = np.array([[0.9], [0.1], [0.1]]), np.array([[0.4], [0.5], [0.1]])
    found = compare(
        [multi_label_outcome(truth, p, name=n) for n, p in (("a", first), ("b", second))]
    )
    # Of 27 draws, 8 lack the image of the label, and 7 hold it without the one ranked above it.
    assert found.pairs[0].p_value == pytest.approx(2 * 7 / 19, abs=0.05)


def test_without_any_true_label_nothing_can_be_compared() -> None:
    truth = np.zeros((4, 2), dtype=bool)
    scores = np.random.default_rng(0).random((4, 2))
    outcomes = [multi_label_outcome(truth, scores, name=name) for name in "ab"]
    with pytest.raises(OptionError, match="none of the 4 images has a label, .*--label-column"):
        compare(outcomes)


def test_a_label_of_every_image_is_no_obstacle_to_a_comparison() -> None:
    truth, scores = multi_label_example(2, images=30)
    truth[:, 0] = True
    found = compare([multi_label_outcome(truth, scores, name=name) for name in "ab"])
    assert found.rivals == ("b",)


def test_failures_are_told_from_scores() -> None:
    outcome = outcome_of(np.eye(3), [0, 1, 2], failed=[1])
    assert outcome.failures == [Failure(1, "1.jpg", "corrupt")]
    assert outcome.scores().truth.tolist() == [0, 2]
    assert outcome.probabilities().shape == (2, 3)
