"""The open_clip encoder: loading, tokens, pixels, embeddings, fingerprints, memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled  # type: ignore[attr-defined]
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from clipcls.errors import (
    DecodeError,
    DeviceError,
    MissingExtraError,
    ModelDownloadError,
    ModelError,
    WeightsMismatchError,
)
from clipcls.models.devices import DeviceChoice
from clipcls.models.names import MINI_FOLDER, resolve_model
from clipcls.models.openclip import OpenClipEncoder, load_encoder
from clipcls.models.pixels import PixelTransform
from clipcls.models.tokenizer import PromptTokenizer, load_tokenizer
from clipcls.options import Precision
from tests.checkpoints import CheckpointFolders, checkpoints, named_config
from tests.hub_cache import HubCache, hub_cache
from tests.models.test_weights import as_if_published, as_torchscript

__all__ = ["checkpoints", "hub_cache"]

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"


def on_cpu(precision: Precision = Precision.FP32) -> DeviceChoice:
    return DeviceChoice("cpu", precision, batch_size=4, workers=2, reason="test")


def load(word: Path | str, precision: Precision = Precision.FP32) -> OpenClipEncoder:
    return load_encoder(resolve_model(str(word)), on_cpu(precision))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def tiny(checkpoints: CheckpointFolders) -> OpenClipEncoder:
    return load(checkpoints.folder("tiny"))


@pytest.fixture
def copy(checkpoints: CheckpointFolders, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoints.folder("tiny"), tmp_path / "copy"))


def change_config(folder: Path, part: str, **changes: Any) -> None:
    """Change the folder's `model_cfg`, `preprocess_cfg`, or `text_cfg` inside of the first."""
    config = json.loads((folder / CONFIG).read_text())
    holder = config["model_cfg"]["text_cfg"] if part == "text_cfg" else config[part]
    holder.update(changes)
    (folder / CONFIG).write_text(json.dumps(config))


# --- what it says of itself ----------------------------------------------------------------------


def test_attributes(tiny: OpenClipEncoder, checkpoints: CheckpointFolders) -> None:
    assert tiny.name == str(checkpoints.folder("tiny"))
    assert (tiny.dim, tiny.image_size, tiny.context_length) == (64, (64, 64), 77)
    # Half-precision files hold log(100) to three digits.
    assert tiny.logit_scale == pytest.approx(100.0, rel=1e-3)
    assert tiny.logit_bias == 0.0


def test_bias_of_a_model_that_has_one(checkpoints: CheckpointFolders) -> None:
    assert load(checkpoints.folder("siglip-style")).logit_bias == -10.0


# --- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(31, 77), (500, 64), (64, 64), (65, 300)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_prepared_pixels_are_open_clip_s(
    copy: Path, size: tuple[int, int], mode: str, interpolation: str
) -> None:
    change_config(copy, "preprocess_cfg", resize_mode=mode, interpolation=interpolation)
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{copy}")
    image = noise(*size)

    pixels = load(copy).prepare(image)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 64, 64)
    expected = transform(image)
    ours = (torch.from_numpy(pixels).float() / 255 - 0.5) / 0.5
    assert torch.equal(ours, expected)


def test_pictures_are_prepared_alike_in_many_threads(tiny: OpenClipEncoder) -> None:
    images = [noise(90 + i, 120 - i, i) for i in range(16)]
    alone = [tiny.prepare(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(tiny.prepare, images))
    np.testing.assert_array_equal(together, alone)


THIN = "too long and thin to be resized"


@pytest.mark.parametrize(
    ("mode", "longest_that_works", "too_long"),
    [("shortest", 12_207, 12_208), ("longest", 127, 128), ("squash", 60_000, 2_000_001)],
)
def test_a_thread_of_a_picture_is_a_failure_and_no_crash_and_no_memory_bomb(
    copy: Path, mode: str, longest_that_works: int, too_long: int
) -> None:
    change_config(copy, "preprocess_cfg", resize_mode=mode)
    encoder = load(copy)
    for upright in (False, True):
        size = (1, longest_that_works) if upright else (longest_that_works, 1)
        assert encoder.prepare(Image.new("RGB", size)).shape == (3, 64, 64)
        size = (1, too_long) if upright else (too_long, 1)
        with pytest.raises(DecodeError, match=f"^{THIN}$"):
            encoder.prepare(Image.new("RGB", size))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "not enough memory to resize it"),
        (ValueError("height and width must be > 0"), "cannot be resized"),
        (OSError("anything"), "cannot be resized"),
    ],
)
def test_whatever_pillow_raises_over_a_picture_is_that_picture_s_failure(
    tiny: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(DecodeError, match=f"^{reason}$") as caught:
        tiny.prepare(noise(90, 80))
    assert caught.value.__cause__ is error


def test_a_picture_without_pixels_is_a_failure(tiny: OpenClipEncoder) -> None:
    with pytest.raises(DecodeError):
        tiny.prepare(Image.new("RGB", (0, 5)))


# --- embeddings ----------------------------------------------------------------------------------


def batch_of(encoder: OpenClipEncoder, count: int) -> NDArray[np.uint8]:
    return np.stack([encoder.prepare(noise(70, 80, seed)) for seed in range(count)])


def test_embeddings_are_float32_and_of_length_one(tiny: OpenClipEncoder) -> None:
    for rows in (tiny.encode_images(batch_of(tiny, 3)), tiny.encode_texts(["a", "b", "c"])):
        assert rows.dtype == np.float32
        assert rows.shape == (3, 64)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)


def test_empty_batches(tiny: OpenClipEncoder) -> None:
    assert tiny.encode_images(np.zeros((0, 3, 64, 64), np.uint8)).shape == (0, 64)
    assert tiny.encode_texts([]).shape == (0, 64)


def test_read_only_batches_are_taken(tiny: OpenClipEncoder) -> None:
    batch = batch_of(tiny, 2)
    expected = tiny.encode_images(batch)
    batch.flags.writeable = False
    np.testing.assert_array_equal(tiny.encode_images(batch), expected)


def test_equal_prompts_are_computed_once_and_stay_in_place(tiny: OpenClipEncoder) -> None:
    rows = tiny.encode_texts(["cat", "dog", "cat", "cow"])
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_allclose(rows[1], tiny.encode_texts(["dog"])[0], atol=1e-6)
    assert not np.allclose(rows[0], rows[1])


def test_more_prompts_than_fit_into_one_batch(tiny: OpenClipEncoder) -> None:
    prompts = [f"number {i}" for i in range(300)]
    rows = tiny.encode_texts(prompts)
    np.testing.assert_allclose(rows[299], tiny.encode_texts(prompts[299:])[0], atol=1e-6)


def test_a_string_is_no_list_of_prompts(tiny: OpenClipEncoder) -> None:
    with pytest.raises(TypeError, match="list of strings"):
        tiny.encode_texts("cat")


@pytest.mark.parametrize("name", ["tiny", "siglip-style"])
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_low_precision_is_close_and_keeps_the_scale(
    checkpoints: CheckpointFolders, name: str, precision: Precision
) -> None:
    exact, low = load(checkpoints.folder(name)), load(checkpoints.folder(name), precision)
    batch = batch_of(exact, 2)
    rows = low.encode_images(batch)
    assert rows.dtype == np.float32
    assert (rows * exact.encode_images(batch)).sum(axis=1).min() > 0.995
    texts = low.encode_texts(["cat"])
    assert float((texts * exact.encode_texts(["cat"])).sum()) > 0.995
    assert (low.logit_scale, low.logit_bias) == (exact.logit_scale, exact.logit_bias)


# --- tokens --------------------------------------------------------------------------------------


def test_tokens_are_counted_uncut(tiny: OpenClipEncoder) -> None:
    long = "cat " * 200
    assert tiny.count_tokens(["cat", "a photo of a cat", long, ""]) == [3, 7, 202, 2]
    assert tiny.count_tokens([]) == []


def test_tokenizer_needs_no_weights(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    tokenizer = load_tokenizer(resolve_model(str(copy)))
    assert tokenizer.context_length == 77
    assert tokenizer.count_tokens(["a photo of a cat"]) == [7]


def word_tokenizer(folder: Path) -> None:
    """Put a tokenizer of whole words into the folder."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<pad>": 0, "<unk>": 1, "cat": 2, "dog": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tokenizer_of_the_folder_itself(copy: Path) -> None:
    word_tokenizer(copy)
    plain = load(copy).fingerprint
    change_config(copy, "text_cfg", hf_tokenizer_name="owner/elsewhere", context_length=77)
    tokenizer = load_tokenizer(resolve_model(str(copy)))
    assert tokenizer(["cat dog"])[0, :3].tolist() == [2, 3, 0]
    assert tokenizer.count_tokens(["cat dog", "cat " * 100]) == [2, 100]
    assert load(copy).fingerprint != plain


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_folder_without_the_files_of_its_tokenizer(copy: Path) -> None:
    pytest.importorskip("transformers")
    change_config(copy, "text_cfg", hf_tokenizer_name="owner/elsewhere")
    with pytest.raises(ModelError, match="lacks the files of its tokenizer.*owner/elsewhere"):
        load_tokenizer(resolve_model(str(copy)))


def test_tokenizer_that_needs_transformers_names_the_extra(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_config(copy, "text_cfg", hf_tokenizer_name="owner/elsewhere")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"clipcls\[siglip\]"):
        load_tokenizer(resolve_model(str(copy)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fetching_a_tokenizer_draws_no_bars(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    word_tokenizer(copy)
    change_config(copy, "text_cfg", hf_tokenizer_name="owner/elsewhere", context_length=77)
    shown = []
    build = open_clip.tokenizer.HFTokenizer

    def watched(*arguments: object, **options: object) -> object:
        shown.append(not are_progress_bars_disabled())
        return build(*arguments, **options)

    monkeypatch.setattr(open_clip.tokenizer, "HFTokenizer", watched)
    load_tokenizer(resolve_model(str(copy)))
    assert shown == [False]
    assert not are_progress_bars_disabled()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tokenizer_that_is_not_here_says_so(hub_cache: HubCache) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelDownloadError, match="ViT-B-16-SigLIP:webli is not on this machine"):
        load_tokenizer(resolve_model("ViT-B-16-SigLIP"))


# --- fingerprints --------------------------------------------------------------------------------


def test_fingerprint_is_of_the_content_and_not_of_the_place(
    tiny: OpenClipEncoder, copy: Path
) -> None:
    assert load(copy).fingerprint == tiny.fingerprint
    assert load(copy, Precision.BF16).fingerprint != tiny.fingerprint


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("preprocess_cfg", {"mean": [0.4, 0.5, 0.5]}),
        ("preprocess_cfg", {"resize_mode": "squash"}),
        ("model_cfg", {"quick_gelu": True}),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}),
    ],
)
def test_fingerprint_sees_what_changes_an_embedding(
    tiny: OpenClipEncoder, copy: Path, part: str, change: dict[str, Any]
) -> None:
    change_config(copy, part, **change)
    assert load(copy).fingerprint != tiny.fingerprint


def test_fingerprint_sees_the_weights(tiny: OpenClipEncoder, copy: Path) -> None:
    state = load_file(copy / WEIGHTS)
    state["visual.proj"] += 0.5
    save_file(state, copy / WEIGHTS)
    assert load(copy).fingerprint != tiny.fingerprint


# --- never random, never partly ------------------------------------------------------------------


def test_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="no weight file"):
        load(copy)


def test_weights_that_do_not_fit_are_refused(copy: Path) -> None:
    state = load_file(copy / WEIGHTS)
    del state["text_projection"]
    save_file(state, copy / WEIGHTS)
    with pytest.raises(WeightsMismatchError, match=r"1 missing \(text_projection\)"):
        load(copy)


def test_weights_for_pictures_of_another_size_are_refused(copy: Path) -> None:
    config = json.loads((copy / CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 96
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(WeightsMismatchError, match=r"visual\.positional_embedding is 17x64"):
        load(copy)


def test_the_model_knows_its_size_whatever_the_preprocessing_says(copy: Path) -> None:
    change_config(copy, "preprocess_cfg", size=512)
    assert load(copy).image_size == (64, 64)


def test_published_weights_that_do_not_fit_are_refused(
    checkpoints: CheckpointFolders, hub_cache: HubCache
) -> None:
    repository = "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"
    hub_cache.add(repository, WEIGHTS, checkpoints.folder("tiny") / WEIGHTS)
    with pytest.raises(WeightsMismatchError, match="ViT-B-32-256.*pull it again") as caught:
        load("fast")
    assert "\n" not in str(caught.value)


def test_missing_weights_are_noticed_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from clipcls.models.devices import *; from clipcls.options import *;"
        "from clipcls.models.openclip import *; from clipcls.models.names import *\n"
        "try: load_encoder(resolve_model('fast'), DeviceChoice('cpu', Precision.FP32, 1, 1, ''))\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ModelDownloadError", "False"]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("preprocess_cfg", {"resize_mode": "sideways"}),
        ("preprocess_cfg", {"interpolation": "magic"}),
        ("model_cfg", {"unheard_of": 1}),
        ("text_cfg", {"width": "wide"}),
    ],
)
def test_configuration_that_open_clip_refuses_is_one_line(
    copy: Path, part: str, change: dict[str, Any]
) -> None:
    change_config(copy, part, **change)
    with pytest.raises(ModelError) as caught:
        load(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_loading_says_nothing(checkpoints: CheckpointFolders) -> None:
    code = (
        "import sys; from clipcls.models.openclip import *; from clipcls.models.names import *;"
        "from clipcls.models.devices import *; from clipcls.options import *;"
        "load_encoder(resolve_model(sys.argv[1]), choose_device(RuntimeOptions('cpu')));"
        "import logging; assert not logging.getLogger().handlers"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoints.folder("tiny"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- the four ways to name the same weights ------------------------------------------------------


def test_hub_model_from_the_cache(
    tiny: OpenClipEncoder, checkpoints: CheckpointFolders, hub_cache: HubCache
) -> None:
    for name in (CONFIG, WEIGHTS):
        hub_cache.add("owner/tiny", name, checkpoints.folder("tiny") / name)
    encoder = load("hf-hub:owner/tiny")
    assert encoder.fingerprint == tiny.fingerprint
    np.testing.assert_array_equal(encoder.encode_texts(["cat"]), tiny.encode_texts(["cat"]))


def test_hub_model_that_is_not_here(hub_cache: HubCache) -> None:
    with pytest.raises(ModelDownloadError, match="hf-hub:owner/none"):
        load("hf-hub:owner/none")


@pytest.mark.slow
def test_openai_weights_run_with_quickgelu_however_they_are_named(
    checkpoints: CheckpointFolders,
    hub_cache: HubCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = checkpoints.folder("ViT-B-32-quickgelu")
    hub_cache.add("timm/vit_base_patch32_clip_224.openai", WEIGHTS, folder / WEIGHTS)
    model = open_clip.create_model(f"local-dir:{folder}")
    as_torchscript(model, tmp_path / "ViT-B-32.pt", size=224)
    as_if_published(monkeypatch, tmp_path / "ViT-B-32.pt")

    expected = load(folder)
    batch = batch_of(expected, 2)
    rows = expected.encode_images(batch)
    archive = resolve_model(str(tmp_path / "ViT-B-32.pt"), "ViT-B/32")
    for spec in (resolve_model("ViT-B/32"), resolve_model("ViT-B-32-quickgelu:openai"), archive):
        encoder = load_encoder(spec, on_cpu())
        np.testing.assert_allclose(encoder.encode_images(batch), rows, atol=1e-6)
        np.testing.assert_array_equal(
            encoder.prepare(noise(99, 55)), expected.prepare(noise(99, 55))
        )
    plain = resolve_model(str(shutil.copy(folder / WEIGHTS, tmp_path)), "ViT-B-32")
    assert np.abs(load_encoder(plain, on_cpu()).encode_images(batch) - rows).max() > 1e-3


@pytest.mark.gpu
def test_batches_in_flight_on_a_gpu_give_the_rows_of_the_cpu(
    checkpoints: CheckpointFolders, tiny: OpenClipEncoder
) -> None:
    spec = resolve_model(str(checkpoints.folder("tiny")))
    encoder = load_encoder(spec, DeviceChoice("cuda", Precision.FP32, 4, 2, "test"))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 16, 3, 64, 64), dtype=np.uint8)
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(encoder.encode_images, pixels))
    for ours, batch in zip(rows, pixels, strict=True):
        np.testing.assert_allclose(ours, tiny.encode_images(batch), atol=1e-3)


# --- memory --------------------------------------------------------------------------------------


class Greedy:
    """A model whose memory holds a limited number of pictures or prompts at once."""

    def __init__(self, capacity: int, error: Exception) -> None:
        self.capacity = capacity
        self.error = error
        self.sizes: list[int] = []
        self.visual = self
        self.preprocess_cfg = {**named_config("tiny")["preprocess_cfg"], "size": 8}
        self.logit_scale = torch.tensor(0.0)

    def _embed(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.capacity:
            raise self.error
        return batch.reshape(len(batch), -1)[:, :4].float() + 1.0

    encode_image = encode_text = _embed


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


def greedy_encoder(
    capacity: int, error: Exception = OUT_OF_MEMORY
) -> tuple[OpenClipEncoder, Greedy]:
    model = Greedy(capacity, error)
    tokenizer = PromptTokenizer(open_clip.SimpleTokenizer(), 77)
    transform = PixelTransform(model.preprocess_cfg)
    return OpenClipEncoder(model, tokenizer, transform, on_cpu(), ("greedy", "0", 4)), model


@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY,
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_remembers(error: Exception) -> None:
    encoder, model = greedy_encoder(capacity=3, error=error)
    batch = np.random.default_rng(0).integers(0, 256, (11, 3, 8, 8), dtype=np.uint8)
    rows = encoder.encode_images(batch)
    assert model.sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    roomy, _ = greedy_encoder(capacity=100)
    np.testing.assert_array_equal(rows, roomy.encode_images(batch))

    model.sizes.clear()
    encoder.encode_images(batch[:4])
    assert model.sizes == [2, 2]


def test_out_of_memory_over_texts() -> None:
    encoder, model = greedy_encoder(capacity=100)
    assert encoder.encode_texts([str(i) for i in range(300)]).shape == (300, 4)
    assert model.sizes == [256, 128, 64, 64, 64, 64, 44]


def test_a_single_picture_that_does_not_fit_ends_it() -> None:
    encoder, _ = greedy_encoder(capacity=0)
    with pytest.raises(DeviceError, match="does not hold a single input"):
        encoder.encode_images(np.zeros((3, 3, 8, 8), np.uint8))


BUILD, READ = "open_clip.create_model", "safetensors.torch.load_file"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available\nCUDA kernel errors might be late"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        NotImplementedError("The operator 'aten::x' is not implemented for the MPS device"),
    ],
)
def test_whatever_else_the_device_raises_is_one_line_with_its_cause(error: Exception) -> None:
    encoder, model = greedy_encoder(capacity=0, error=error)
    with pytest.raises(DeviceError, match="cannot be run on cpu .*--precision fp32") as caught:
        encoder.encode_images(np.zeros((3, 3, 8, 8), np.uint8))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    with pytest.raises(DeviceError, match="cannot be run on cpu"):
        encoder.encode_texts(["cat"])
    assert model.sizes == [3, 1]


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        (BUILD, RuntimeError("CUDA error: out of memory"), "cpu has no room for .*smaller model"),
        (BUILD, RuntimeError("CUDA error: invalid device function"), "cannot be run .*invalid"),
        (READ, RuntimeError("DefaultCPUAllocator: can't allocate memory"), "cpu has no room for"),
        (READ, MemoryError(), "cpu has no room for"),
    ],
)
def test_trouble_with_the_device_while_loading_is_not_blamed_on_the_files(
    copy: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception, message: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(place, fail)
    with pytest.raises(DeviceError, match=message):
        load(copy)


# --- the bundled model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini() -> OpenClipEncoder:
    return load("mini")


def test_mini_is_loaded_like_any_other_folder(mini: OpenClipEncoder) -> None:
    config = json.loads((MINI_FOLDER / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    assert mini.name == "mini"
    assert mini.dim == config["embed_dim"]
    assert mini.image_size == (config["vision_cfg"]["image_size"],) * 2
    assert mini.context_length == config["text_cfg"]["context_length"]
    pixels = np.stack([mini.prepare(noise(300, 200, seed)) for seed in range(3)])
    for rows in (mini.encode_images(pixels), mini.encode_texts(["a cat", "a dog", "a rocket"])):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_mini_in_low_precision_is_close(mini: OpenClipEncoder, precision: Precision) -> None:
    low = load("mini", precision)
    pixels = mini.prepare(noise(300, 200))[None]
    np.testing.assert_allclose(low.encode_images(pixels), mini.encode_images(pixels), atol=0.02)
    assert low.logit_scale == mini.logit_scale


def test_towers_of_convolutions_have_the_channels_last(
    mini: OpenClipEncoder, tiny: OpenClipEncoder
) -> None:
    first = next(p for p in mini._model.visual.trunk.parameters() if p.dim() == 4)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert (mini._layout, tiny._layout) == (torch.channels_last, torch.contiguous_format)


def test_a_copy_of_mini_s_folder_is_the_same_model(tmp_path: Path, mini: OpenClipEncoder) -> None:
    shutil.copytree(MINI_FOLDER, tmp_path / "elsewhere")
    assert load(str(tmp_path / "elsewhere")).fingerprint == mini.fingerprint


def test_mini_from_the_hub_is_the_same_model(hub_cache: HubCache, mini: OpenClipEncoder) -> None:
    for name in (CONFIG, WEIGHTS):
        hub_cache.add("owner/mini", name, MINI_FOLDER / name)
    assert load("hf-hub:owner/mini").fingerprint == mini.fingerprint
