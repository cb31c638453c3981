"""What is measured, each in a process of its own: `python -m benchmarks.contenders NAME ...`.

All take the same files and the same weights, and give one row of probabilities per image. The clock
runs from the first file to the last row; imports, the model and the texts come before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.question import LABELS, TEMPLATE, Skipped

BATCH = 32
"""Images per forward pass of the contenders that are not clipcls."""

LARGE_SIZE = (4000, 3000)
"""Width and height in pixels: the 12 megapixels of a telephone."""

Rows = list[list[float]]


@dataclass(frozen=True)
class Asked:
    """What a contender is given.

    Attributes:
        images: The N files, in order.
        model: A folder in open_clip's `local-dir` layout, or `mini`.
        device: As `clipcls --device` takes it.
        precision: As `clipcls --precision` takes it; contenders that are not clipcls use float32.
        decoding: As `clipcls --decode` takes it.
    """

    images: list[Path]
    model: str
    device: str
    precision: str
    decoding: str

    def torch_device(self) -> str:
        """Return the device that clipcls would choose, so that all use the same."""
        from clipcls.models.devices import choose_device
        from clipcls.options import RuntimeOptions

        return choose_device(RuntimeOptions(device=self.device)).device

    def texts(self) -> list[str]:
        """Return one prompt per label."""
        return [TEMPLATE.replace("<>", label) for label in LABELS]


@dataclass(frozen=True)
class OpenClip:
    """open_clip's model as its README loads it.

    Attributes:
        model: In evaluation mode, on the device.
        preprocess: From a PIL image to a (3, H, W) tensor.
        classes: (C, D) normalised text features.
        device: Where the model is.
    """

    model: Any
    preprocess: Callable[[Image.Image], Any]
    classes: Any
    device: str

    @classmethod
    def load(cls, asked: Asked) -> OpenClip:
        """Load the model and encode the labels' texts."""
        import open_clip
        import torch

        source, device = f"local-dir:{asked.model}", asked.torch_device()
        model, _, preprocess = open_clip.create_model_and_transforms(source, device=device)
        tokens = open_clip.get_tokenizer(source)(asked.texts())
        with torch.no_grad():
            classes = model.eval().encode_text(tokens.to(device), normalize=True)
        return cls(model, preprocess, classes, device)

    def rows(self, batch: Any) -> Rows:
        """Return the probabilities of a (B, 3, H, W) batch."""
        features = self.model.encode_image(batch.to(self.device))
        features /= features.norm(dim=-1, keepdim=True)
        scale = self.model.logit_scale.exp()
        rows: Rows = (scale * features @ self.classes.T).softmax(dim=-1).tolist()
        return rows


def readme_loop(asked: Asked) -> tuple[float, Rows]:
    """open_clip as its README shows it, one file after the other."""
    import torch

    loaded = OpenClip.load(asked)
    rows: Rows = []
    started = time.perf_counter()
    with torch.no_grad():
        for path in asked.images:
            with Image.open(path) as image:
                rows += loaded.rows(loaded.preprocess(image).unsqueeze(0))
    return time.perf_counter() - started, rows


@dataclass(frozen=True)
class Files:
    """The files as torch's DataLoader takes them."""

    paths: Sequence[Path]
    preprocess: Callable[[Image.Image], Any]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.paths[index]) as image:
            return self.preprocess(image)


def data_loader(asked: Asked) -> tuple[float, Rows]:
    """open_clip behind torch's DataLoader with two worker processes."""
    import torch
    from torch.utils.data import DataLoader

    loaded = OpenClip.load(asked)
    files: Any = Files(asked.images, loaded.preprocess)
    rows: Rows = []
    started = time.perf_counter()
    with torch.no_grad():
        for batch in DataLoader(files, batch_size=BATCH, num_workers=2):
            rows += loaded.rows(batch)
    return time.perf_counter() - started, rows


def hugging_face(asked: Asked) -> tuple[float, Rows]:
    """Hugging Face's CLIP with its image processor, batch by batch, from the same weights."""
    import torch

    from benchmarks.hugging_face import load

    device = asked.torch_device()
    model, processor, tokens = load(Path(asked.model), asked.texts())
    model.eval().to(device)
    rows: Rows = []
    with torch.no_grad():
        classes = model.get_text_features(input_ids=tokens.to(device)).pooler_output
        classes = classes / classes.norm(dim=-1, keepdim=True)
        started = time.perf_counter()
        for paths in batches(asked.images):
            images = [Image.open(path) for path in paths]
            pixels = processor(images=images, return_tensors="pt")["pixel_values"]
            features = model.get_image_features(pixel_values=pixels.to(device)).pooler_output
            features = features / features.norm(dim=-1, keepdim=True)
            rows += (model.logit_scale.exp() * features @ classes.T).softmax(dim=-1).tolist()
    return time.perf_counter() - started, rows


def batches(items: Sequence[Any], size: int = BATCH) -> Iterator[Sequence[Any]]:
    """Cut a sequence into parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def our_classifier(asked: Asked) -> Any:
    """Return clipcls' own parts, as `clipcls classify` puts them together."""
    from clipcls import Classifier, Precision, RuntimeOptions, resolve_model
    from clipcls.models.devices import keep_freed_memory

    # As the program does in its own process.
    keep_freed_memory()
    return Classifier(
        LABELS,
        model=resolve_model(asked.model),
        templates=[TEMPLATE],
        runtime=RuntimeOptions(device=asked.device, precision=Precision(asked.precision)),
    )


def prepared_by(
    classifier: Any, paths: Sequence[Path], keep: bool, decoding: str = "fast"
) -> list[Any]:
    """Decode files with as many threads as clipcls has; return (3, H, W) uint8 where kept."""
    from clipcls.inputs.decode import load_image
    from clipcls.options import DecodeOptions, Decoding

    encoder, options = classifier.encoder, DecodeOptions(decoding=Decoding(decoding))

    def prepare(path: Path) -> Any:
        pixels = encoder.prepare(load_image(path, options, max(encoder.image_size)).image)
        return pixels if keep else None

    with ThreadPoolExecutor(classifier.device.workers) as pool:
        return list(pool.map(prepare, paths))


def decode_only(asked: Asked) -> tuple[float, None]:
    """clipcls without the model: files to prepared pixels."""
    classifier = our_classifier(asked)
    prepared_by(classifier, asked.images[:1], False, asked.decoding)
    started = time.perf_counter()
    prepared_by(classifier, asked.images, False, asked.decoding)
    return time.perf_counter() - started, None


def encode_only(asked: Asked) -> tuple[float, Rows]:
    """clipcls without the files: prepared pixels to embeddings; one batch warms up."""
    import numpy as np

    from clipcls.embed import embedded
    from clipcls.inputs.refs import ImageRef

    classifier = our_classifier(asked)
    scorer, encoder = classifier.scorer, classifier.encoder
    pixels = prepared_by(classifier, asked.images, keep=True)
    parts = [np.stack(part) for part in batches(pixels, classifier.device.batch_size)]
    encoder.encode_images(parts[0])
    started = time.perf_counter()
    vectors = [vector for part in parts for vector in encoder.encode_images(part)]
    seconds = time.perf_counter() - started
    found: list[Any] = [embedded(ImageRef(0, ""), vector, "") for vector in vectors]
    return seconds, [scorer(record).probabilities.tolist() for record in found]


def listed_paths(asked: Asked) -> tuple[float, None]:
    """clipcls' pipeline on a list of a few tiny images, named over and over, without a model."""
    from clipcls.labels import make_labels
    from clipcls.options import OutputOptions, RuntimeOptions
    from clipcls.question import Inputs, ModelChoice, Question
    from clipcls.run import Job, run
    from clipcls.testing import COLOURS, FakeEncoder, save_colours

    count = int(asked.model)
    paths = save_colours(Path("tiny"), list(COLOURS))
    with Path("listed.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{paths[i % len(paths)]}\n" for i in range(count))
    job = Job(
        inputs=Inputs(("@listed.txt",)),
        question=Question(make_labels(list(COLOURS)), (TEMPLATE,)),
        # On the CPU, because looking for others would import torch.
        model=ModelChoice("fake", runtime=RuntimeOptions(device="cpu")),
        output=OutputOptions(path=Path("listed.csv"), overwrite=True),
    )
    started = time.perf_counter()
    report = run(job, encoder=FakeEncoder())
    if report.done != count:
        raise SystemExit(f"{report.done} of {count} images were scored")
    return time.perf_counter() - started, None


def enlarge(asked: Asked) -> tuple[float, None]:
    """Write each image as a JPEG of 12 megapixels into the folder `large`."""
    started = time.perf_counter()
    Path("large").mkdir()
    for number, path in enumerate(asked.images):
        with Image.open(path) as image:
            large = image.convert("RGB").resize(LARGE_SIZE, Image.Resampling.BICUBIC)
        large.save(Path("large") / f"{number:03}.jpg", quality=90)
    return time.perf_counter() - started, None


CONTENDERS: dict[str, Callable[[Asked], tuple[float, Rows | None]]] = {
    "loop": readme_loop,
    "loader": data_loader,
    "hugging-face": hugging_face,
    "decode": decode_only,
    "encode": encode_only,
    "listed": listed_paths,
    "enlarge": enlarge,
}


def main() -> None:
    """Run one contender: NAME LIST RESULT MODEL DEVICE PRECISION DECODING."""
    name, listing, result, *how = sys.argv[1:]
    images = [Path(line) for line in Path(listing).read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any]
    try:
        seconds, rows = CONTENDERS[name](Asked(images, *how))
        found = {"seconds": seconds, "rows": rows}
    except Skipped as reason:
        found = {"skipped": str(reason)}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
