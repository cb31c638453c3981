"""Every loss against its definition, written out with numpy or in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training.mini.losses import (
    answer_divergence,
    contrastive_loss,
    cosine_loss,
    in_batch_loss,
    pair_divergence,
    task_loss,
)


def unit(*shape: int, seed: int) -> Tensor:
    """Return random vectors of length 1."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made, dim=-1)


def softmax(row: np.ndarray) -> np.ndarray:
    grown = np.exp(row - row.max())
    return np.asarray(grown / grown.sum())


def test_the_contrastive_loss_is_the_mean_of_both_cross_entropies() -> None:
    images, texts = 3 * unit(4, 5, seed=0), 0.1 * unit(4, 5, seed=1)
    logits = 7 * (unit(4, 5, seed=0) @ unit(4, 5, seed=1).T).numpy()
    over_texts = [-math.log(softmax(logits[i])[i]) for i in range(4)]
    over_images = [-math.log(softmax(logits[:, i])[i]) for i in range(4)]
    expected = (np.mean(over_texts) + np.mean(over_images)) / 2
    assert contrastive_loss(images, texts, 7.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_contrastive_loss_asks_both_ways_and_is_lowest_for_the_own_text() -> None:
    images, texts = unit(6, 8, seed=0), unit(6, 8, seed=1)
    there, back = contrastive_loss(images, texts, 9.0), contrastive_loss(texts, images, 9.0)
    assert there.item() == pytest.approx(back.item(), rel=1e-6)
    assert contrastive_loss(images, images, 50.0) < 0.01 < contrastive_loss(images, texts, 50.0)


def test_the_task_loss_weighs_an_image_by_what_the_task_asks_of_it() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5], [1.0, 1.0, 1.0]])
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    first = -(np.array([0.5, 0.25, 0.25]) * np.log(softmax(np.array([1.0, 0.0, -1.0])))).sum()
    second = -0.5 * math.log(softmax(np.array([0.0, 2.0, 0.5]))[1])
    assert task_loss(logits, shares).item() == pytest.approx((first + second) / 1.5, rel=1e-5)


def test_the_task_loss_of_certain_answers_is_the_cross_entropy() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    target = torch.tensor([0, 3, 1, 1, 2])
    certain = torch.nn.functional.one_hot(target, 4).float()
    expected = torch.nn.functional.cross_entropy(logits, target).item()
    assert task_loss(logits, certain).item() == pytest.approx(expected, rel=1e-6)


def test_the_cosine_loss_sees_only_what_the_metric_sees() -> None:
    student, teacher = (
        torch.tensor([[1.0, 0.0], [3.0, 4.0]]),
        torch.tensor([[0.0, 2.0], [3.0, 4.0]]),
    )
    assert cosine_loss(student, teacher).item() == pytest.approx((1 + 0) / 2, abs=1e-6)
    blind = torch.diag(torch.tensor([1.0, 0.0]))
    turned = torch.tensor([[1.0, 9.0], [3.0, -4.0]])
    assert cosine_loss(student, turned, blind).item() == pytest.approx(0, abs=1e-6)


def test_in_batch_the_own_target_must_be_the_nearest() -> None:
    student, teacher = unit(5, 6, seed=3), unit(5, 6, seed=4)
    logits = (student @ teacher.T).numpy() / 0.05
    expected = np.mean([-math.log(softmax(logits[i])[i]) for i in range(5)])
    assert in_batch_loss(student, teacher, 0.05).item() == pytest.approx(expected, rel=1e-4)


def test_answers_are_compared_task_by_task_by_their_divergence() -> None:
    images, student, teacher = unit(3, 6, seed=5), unit(4, 6, seed=6), unit(4, 6, seed=7)
    tasks = torch.tensor([[2, 0], [1, 3]])
    found = []
    for image in images.numpy():
        for task in tasks.numpy():
            theirs = softmax(20 * teacher.numpy()[task] @ image)
            ours = softmax(20 * student.numpy()[task] @ image)
            found.append((theirs * np.log(theirs / ours)).sum())
    loss = answer_divergence(images, student, teacher, tasks, 20.0)
    assert loss.item() == pytest.approx(np.mean(found), rel=1e-4)
    same = answer_divergence(images, teacher, teacher, tasks, 20.0)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_a_pair_is_a_task_of_two_labels() -> None:
    images, student, teacher = unit(3, 6, seed=8), unit(2, 4, 6, seed=9), unit(2, 4, 6, seed=10)
    tasks = torch.tensor([[0, 4], [1, 5], [2, 6], [3, 7]])
    as_tasks = answer_divergence(images, student.reshape(8, 6), teacher.reshape(8, 6), tasks, 20.0)
    loss = pair_divergence(images, student, teacher, 20.0)
    assert loss.item() == pytest.approx(as_tasks.item(), rel=1e-4)
