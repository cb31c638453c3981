"""Step 4: a small text transformer that says what the joined text head says of MiniLM's vectors.

    python -m training.mini.tower WORK --minilm DIR

Four trainings, each from the one before: MiniLM's own space, the bridge's text head, the joined
target, and the joined target with pairs of texts that differ in one thing.

Writes `WORK/tower/STAGE.pt` for every stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from training.mini.files import finished, load_json, load_tensors, save_array, save_tensors
from training.mini.heads import HeadOptions, load_bridge
from training.mini.join import image_head, joined_texts
from training.mini.loop import Plan, train
from training.mini.losses import answer_divergence, cosine_loss, in_batch_loss, pair_divergence
from training.mini.material import Ids, Random
from training.mini.teachers import MiniLm, SentenceTeacher

SCALE = 20.0
"""What cosines are multiplied by, here and in the finished model."""

TEMPERATURE = 0.05
BUCKETS = 8
"""Batches are drawn so many at a time and sorted by length, so that little is padding."""

INNER = ("attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")
"""What a block adds with; a fresh block of zeros there changes nothing."""


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        target: `sentence` (the teacher's space), `bridge` or `joined`.
        layers: Blocks of the transformer.
        plan: The training.
        weights: What each loss counts: `cosine`, `batch`, `metric`, `answers`, `pairs`.
        short: Share of a batch's texts that have at most seven words for certain.
    """

    target: str
    layers: int
    plan: Plan
    weights: dict[str, float]
    short: float = 0.0


JOINED = {"cosine": 0.5, "batch": 0.04, "metric": 1.0, "answers": 1.0}
STAGES = {
    "sentence": Stage(
        "sentence",
        4,
        Plan(steps=7300, lr=1.5e-3, warmup=300, clip=1.0),
        {"cosine": 1.0, "batch": 0.06},
    ),
    "bridge": Stage(
        "bridge",
        6,
        Plan(steps=1800, lr=5e-4, clip=1.0),
        {"cosine": 1.0, "batch": 0.04, "metric": 1.0},
    ),
    "joined": Stage("joined", 6, Plan(steps=5000, lr=5e-4, clip=1.0), JOINED, short=0.75),
    "pairs": Stage(
        "joined", 6, Plan(steps=3100, lr=5e-4, clip=1.0), {**JOINED, "pairs": 2.0}, short=0.75
    ),
}


@dataclass(frozen=True)
class TowerOptions:
    """Sizes of the transformer and of its batches.

    Attributes:
        width: Of the transformer.
        heads: Of attention.
        context: Tokens that it takes.
        batch: Texts of a step.
        pairs: Pairs of a step where they count; they are a part of the batch.
        images: Images by which answers are compared.
        tasks: Tasks that the texts of a step are dealt into.
        fit: Texts that the first projection into a new target is fitted on.
    """

    width: int = 256
    heads: int = 4
    context: int = 64
    batch: int = 1024
    pairs: int = 144
    images: int = 512
    tasks: int = 8
    fit: int = 24_000


@dataclass(frozen=True)
class Texts:
    """All texts, the corpus first and then the pairs, text by text.

    Attributes:
        ids: (T, context) token ids, zeros after the end.
        lengths: (T,) tokens.
        vectors: (T, E) of the sentence teacher.
        corpus: How many are of the corpus.
        short: Numbers of those of the corpus that have at most seven words.
    """

    ids: NDArray[np.uint16]
    lengths: Ids
    vectors: NDArray[np.float16]
    corpus: int
    short: Ids

    def sentences(self, rows: Ids) -> Tensor:
        """Return vectors, (B, E), unit length."""
        return F.normalize(torch.from_numpy(self.vectors[rows].astype(np.float32)), dim=-1)

    def batch(self, draw_of: Callable[[int], Random], step: int, size: int, short: float) -> Ids:
        """Return the numbers of a step's texts of the corpus, all of like length."""
        draw = draw_of(step // BUCKETS)
        few = round(size * short)
        rows = np.concatenate(
            [
                draw.choice(self.short, BUCKETS * few) if few else np.zeros(0, np.int64),
                draw.integers(0, self.corpus, BUCKETS * (size - few)),
            ]
        )
        sorted_rows = rows[np.argsort(self.lengths[rows], kind="stable")].reshape(BUCKETS, size)
        batch: Ids = sorted_rows[draw.permutation(BUCKETS)[step % BUCKETS]]
        return batch


@dataclass(frozen=True)
class Target:
    """What a stage is to say.

    Attributes:
        of: From sentence vectors (B, E) to targets (B, D), unit length.
        dim: D.
        metric: (D, D), see `cosine_loss`; None in the teacher's own space.
        images: (M, D), unit length, images that answers are compared on; None likewise.
    """

    of: Callable[[Tensor], Tensor]
    dim: int
    metric: Tensor | None = None
    images: Tensor | None = None


def read_texts(work: Path, context: int) -> Texts:
    """Read all texts with their vectors; tokens are kept in `WORK/tower/tokens.npy`."""
    folder, tokens = work / "texts", work / "tower" / "tokens.npy"
    corpus, pairs = load_json(folder / "corpus.json"), load_json(folder / "pairs.json")
    if not finished(tokens):
        tokenizer, texts = SimpleTokenizer(context_length=context), corpus + pairs
        parts = [tokenizer(texts[k : k + 4096]).numpy() for k in range(0, len(texts), 4096)]
        save_array(tokens, np.concatenate(parts).astype(np.uint16))
    ids = np.load(tokens)
    vectors = [np.load(folder / f"{name}.npy") for name in ("corpus", "pairs")]
    return Texts(
        ids=ids,
        lengths=ids.argmax(axis=1).astype(np.int64) + 1,  # the end has the highest number
        vectors=np.concatenate(vectors),
        corpus=len(corpus),
        short=np.array([k for k, text in enumerate(corpus) if len(text.split()) <= 7]),
    )


@torch.no_grad()
def make_target(work: Path, name: str, options: HeadOptions) -> Target:
    """Return the target of a stage."""
    if name == "sentence":
        return Target(lambda sentences: sentences, np.load(work / "texts" / "pairs.npy").shape[1])
    bridge = load_bridge(work / "heads" / "bridge.pt", options)
    features = torch.from_numpy(np.load(work / "heads" / "metric.npy")).float()
    if name == "bridge":
        images = bridge.images(features)
        centred = images - images.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(images))
        metric = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return Target(
            bridge.text, len(metric), metric / (values.sum() / len(metric)).sqrt(), images
        )
    join = load_tensors(work / "heads" / "join.pt")
    strength = join["strength"]
    return Target(
        of=lambda sentences: joined_texts(bridge.text, sentences, join),
        dim=len(strength),
        metric=torch.diag((strength / strength.mean()).sqrt()),
        images=F.normalize(image_head(join)(features), dim=-1),
    )


def run(tower: TextTransformer, texts: Texts, rows: Ids) -> Tensor:
    """Return the tower's embeddings of texts, (B, D), cut to the longest of them."""
    length = int(texts.lengths[rows].max())
    full = tower.attn_mask
    tower.attn_mask = full[:length, :length].contiguous()
    try:
        found: Tensor = tower(torch.from_numpy(texts.ids[rows, :length].astype(np.int64)))
    finally:
        tower.attn_mask = full
    return found.float()


def make_tower(options: TowerOptions, layers: int, dim: int) -> TextTransformer:
    """Return an untrained tower."""
    return TextTransformer(
        context_length=options.context,
        vocab_size=SimpleTokenizer().vocab_size,
        width=options.width,
        heads=options.heads,
        layers=layers,
        output_dim=dim,
    )


@torch.no_grad()
def start_from_words(tower: TextTransformer, teacher: SentenceTeacher) -> None:
    """Give every token the teacher's vector of what it spells, in the widest directions."""
    tokenizer = SimpleTokenizer()
    spelt = [tokenizer.decode([k]).strip() or "." for k in range(tokenizer.vocab_size)]
    vectors = torch.from_numpy(teacher(spelt).astype(np.float32))
    centred = vectors - vectors.mean(0)
    width = tower.token_embedding.weight.shape[1]
    _, directions = torch.linalg.eigh(centred.T @ centred)
    kept = centred @ directions.flip(1)[:, :width]
    tower.token_embedding.weight[:, : kept.shape[1]] = 0.04 * kept / kept.std()


@torch.no_grad()
def start_from(
    tower: TextTransformer, before: dict[str, Tensor], texts: Texts, target: Target, fit: int
) -> None:
    """Continue from an earlier stage: new blocks do nothing yet, a new projection is fitted."""
    known = dict(before)
    projection = known.pop("text_projection")
    missing = tower.load_state_dict(known, strict=False).missing_keys
    for name, weight in tower.named_parameters():
        if name in missing and name.endswith(INNER):
            weight.zero_()
    if projection.shape[1] == target.dim and len(missing) == 1:
        tower.text_projection.copy_(projection)
        return
    rows = np.random.default_rng(0).permutation(texts.corpus)[:fit]
    rows = rows[np.argsort(texts.lengths[rows])]
    tower.text_projection = None  # the transformer's own output, (B, width)
    parts = np.array_split(rows, max(1, len(rows) // 500))
    inner = torch.cat([run(tower, texts, part) for part in parts])
    wanted = torch.cat([target.of(texts.sentences(part)) for part in parts])
    ridge = inner.T @ inner + 10 * torch.eye(inner.shape[1])
    tower.text_projection = nn.Parameter(torch.linalg.solve(ridge, inner.T @ wanted))


def stage_losses(
    tower: TextTransformer,
    texts: Texts,
    target: Target,
    stage: Stage,
    options: TowerOptions,
) -> Callable[[Random, int], dict[str, Tensor]]:
    """Return the losses of a step as `train` takes them."""
    pairs = options.pairs if "pairs" in stage.weights else 0
    single = options.batch - 2 * pairs

    def losses(draw: Random, step: int) -> dict[str, Tensor]:
        rows = texts.batch(
            lambda block: np.random.default_rng([stage.plan.seed, 1, block]),
            step,
            single,
            stage.short,
        )
        first = texts.corpus + 2 * draw.integers(0, (len(texts.ids) - texts.corpus) // 2, pairs)
        rows = np.concatenate([rows, first, first + 1])
        with torch.no_grad():
            wanted = target.of(texts.sentences(rows))
        with stage.plan.autocast():
            found = run(tower, texts, rows)
        found = F.normalize(found, dim=-1)
        parts = {
            "cosine": cosine_loss(found, wanted),
            "batch": in_batch_loss(found, wanted, TEMPERATURE),
        }
        if target.metric is not None and target.images is not None:
            images = target.images[draw.integers(0, len(target.images), options.images)]
            parts["metric"] = cosine_loss(found, wanted, target.metric)
            if "answers" in stage.weights:
                tasks = torch.from_numpy(draw.permutation(len(rows))).view(options.tasks, -1)
                parts["answers"] = answer_divergence(images, found, wanted, tasks, SCALE)
            if pairs:
                two = found[single:].view(2, pairs, -1), wanted[single:].view(2, pairs, -1)
                parts["pairs"] = pair_divergence(images, *two, SCALE)
        return {name: stage.weights[name] * part for name, part in parts.items()}

    return losses


def make_text_tower(
    work: Path,
    teacher: SentenceTeacher,
    options: TowerOptions | None = None,
    heads: HeadOptions | None = None,
    stages: dict[str, Stage] | None = None,
) -> None:
    """Write what the module says.

    Args:
        work: The work folder, with texts and heads.
        teacher: The sentence teacher.
        options: Sizes.
        heads: Those that the heads were made with.
        stages: The trainings, in order.
    """
    options, heads, stages = options or TowerOptions(), heads or HeadOptions(), stages or STAGES
    before: Path | None = None
    for name, stage in stages.items():
        out = work / "tower" / f"{name}.pt"
        if not finished(out):
            texts = read_texts(work, options.context)
            target = make_target(work, stage.target, heads)
            torch.manual_seed(stage.plan.seed)
            tower = make_tower(options, stage.layers, target.dim)
            if before is None:
                start_from_words(tower, teacher)
            else:
                start_from(tower, load_tensors(before), texts, target, options.fit)
            checkpoint = out.with_name(f"{name}-checkpoint.pt")
            losses = stage_losses(tower, texts, target, stage, options)
            train(tower, losses, stage.plan, checkpoint)
            save_tensors(out, tower.state_dict())
            checkpoint.unlink(missing_ok=True)
        before = out


def main(work: Path, minilm: Path, float32: bool = False) -> None:
    """Train the text tower, stage after stage."""
    stages = {
        name: replace(stage, plan=replace(stage.plan, half=not float32))
        for name, stage in STAGES.items()
    }
    make_text_tower(work, MiniLm(minilm), stages=stages)


if __name__ == "__main__":
    typer.run(main)
