"""The losses, with shapes. B, T, N: how many; D: length of an embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """The symmetric contrastive loss of CLIP (arXiv:2103.00020, figure 3).

    Every image must find its text among all texts of the batch, and every text its image: two
    cross-entropies, over the rows and over the columns of one matrix.

    Args:
        images: (B, D), not normalised.
        texts: (B, D), not normalised; row i belongs to image i.
        scale: (), what cosines are multiplied by (in the paper exp(t)).
    """
    images = F.normalize(images, dim=-1)  # (B, D)
    texts = F.normalize(texts, dim=-1)  # (B, D)
    logits = scale * images @ texts.T  # (B, B), image by text
    own = torch.arange(len(logits))  # (B,)
    over_texts = F.cross_entropy(logits, own)
    over_images = F.cross_entropy(logits.T, own)
    return (over_texts + over_images) / 2


def task_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of a zero-shot task against soft answers.

    Args:
        logits: (B, T), image by label of the task.
        shares: (B, T), probability of each label; a row's sum, at most 1, is how much of the
            image the task asks for at all, and what the image counts.
    """
    return -(shares * logits.log_softmax(-1)).sum() / shares.sum().clamp(min=1)


def cosine_loss(student: Tensor, teacher: Tensor, metric: Tensor | None = None) -> Tensor:
    """1 - cosine similarity, in the mean.

    Args:
        student: (B, D).
        teacher: (B, D).
        metric: (D, D), a root of the second moment of image embeddings: with it, only what
            changes a score of images counts.
    """
    if metric is not None:
        student, teacher = student @ metric, teacher @ metric
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


def in_batch_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Every text of the student must find its own target among those of the batch.

    Args:
        student: (B, D), unit length.
        teacher: (B, D), unit length.
        temperature: What cosines are divided by.
    """
    return F.cross_entropy(student @ teacher.T / temperature, torch.arange(len(student)))


def answer_divergence(
    images: Tensor, student: Tensor, teacher: Tensor, tasks: Tensor, scale: float
) -> Tensor:
    """Kullback-Leibler divergence of the student's answers from the teacher's, in the mean.

    Args:
        images: (N, D), unit length.
        student: (B, D), the student's texts, unit length.
        teacher: (B, D), the targets, unit length.
        tasks: (T, L) int64, L of the B texts are the labels of each of T tasks.
        scale: What cosines are multiplied by.
    """
    theirs = (scale * images @ teacher.T)[:, tasks].log_softmax(-1)  # (N, T, L)
    ours = (scale * images @ student.T)[:, tasks].log_softmax(-1)
    return (theirs.exp() * (theirs - ours)).sum(-1).mean()


def pair_divergence(images: Tensor, student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """The same for tasks of two labels that differ in one thing.

    Args:
        images: (N, D), unit length.
        student: (2, B, D), both texts of B pairs, unit length.
        teacher: (2, B, D), the targets, unit length.
        scale: What cosines are multiplied by.
    """
    ours = scale * images @ (student[0] - student[1]).T  # (N, B), log odds
    theirs = scale * images @ (teacher[0] - teacher[1]).T
    wanted = theirs.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(theirs, wanted)
    return F.binary_cross_entropy_with_logits(ours, wanted) - entropy
