"""Images in, explanations out: order, failures, which labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcls import Classifier
from clipcls.explaining.explain import MOST_LABELS, Explanation, explain
from clipcls.inputs.refs import ImageRef
from clipcls.records import Failure
from clipcls.testing import FakeEncoder, save_colours


def refs(*paths: object) -> list[ImageRef]:
    return [ImageRef(i, str(path)) for i, path in enumerate(paths)]


def explained(classifier: Classifier, *paths: object) -> list[Explanation]:
    found = list(explain(classifier, refs(*paths)))
    assert all(isinstance(item, Explanation) for item in found)
    return found  # type: ignore[return-value]


def test_an_explanation_has_the_prediction_and_pixels_of_classify(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    classifier = Classifier(["red", "blue"], model=encoder)
    [path] = save_colours(tmp_path, ["blue"])
    [found] = explained(classifier, path)
    [record] = classifier.classify(path)
    assert not isinstance(record, Failure)
    np.testing.assert_array_equal(found.prediction.logits, record.logits)
    assert (found.prediction.path, found.prediction.prediction) == (str(path), "blue")
    assert found.pixels.shape == (3, *encoder.image_size)
    assert found.shown == (0, 1)


def test_a_failure_keeps_its_place(tmp_path: Path) -> None:
    first, last = save_colours(tmp_path, ["red", "blue"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(first.read_bytes()[:40])
    classifier = Classifier(["red", "blue"], model=FakeEncoder())
    found = list(explain(classifier, refs(first, broken, tmp_path / "gone.png", last)))
    assert [isinstance(item, Failure) for item in found] == [False, True, True, False]
    assert isinstance(found[1], Failure)
    assert (found[1].index, found[1].path) == (1, str(broken))


def test_of_many_labels_the_best_are_explained(tmp_path: Path) -> None:
    names = ["red", "green", "blue", "yellow", "black", "white", "a red thing", "a blue thing"]
    classifier = Classifier(names, model=FakeEncoder())
    [path] = save_colours(tmp_path, ["yellow"])
    [found] = explained(classifier, path)
    best = [label for label, _ in found.prediction.ranking(MOST_LABELS)]
    assert [names[place] for place in found.shown] == best
    assert len(found.heat) == MOST_LABELS == len(best)


def test_a_model_that_breaks_on_a_covered_image_fails_that_image(tmp_path: Path) -> None:
    class Fragile(FakeEncoder):
        def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            vectors = super().encode_images(batch)
            return vectors if len(batch) == 1 else vectors * np.float32(np.nan)

    [path] = save_colours(tmp_path, ["red"])
    [found] = explain(Classifier(["red", "blue"], model=Fragile()), refs(path))
    assert isinstance(found, Failure)
    assert "--precision fp32" in found.reason


@pytest.mark.parametrize("name", ["red", "green"])
def test_the_same_image_is_explained_the_same_twice(tmp_path: Path, name: str) -> None:
    [path] = save_colours(tmp_path, [name])
    classifier = Classifier(["red", "green", "blue"], model=FakeEncoder())
    first, second = explained(classifier, path, path)
    np.testing.assert_array_equal(first.heat, second.heat)
