"""Runs on a Ray of this machine: the rows of a local run, whatever dies meanwhile."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipcls.errors import EngineError, ModelError, OptionError
from clipcls.labels import make_labels
from clipcls.observer import Observer
from clipcls.options import (
    DiscoveryOptions,
    OutputFormat,
    OutputOptions,
    RayOptions,
    RuntimeOptions,
)
from clipcls.outputs.merge import merge_shards, read_shards
from clipcls.question import Inputs, ModelChoice, Question
from clipcls.records import Failure, Record
from clipcls.run import Job, run
from clipcls.shards import Shard
from clipcls.testing import COLOURS, FakeEncoder, save_colours

ray = pytest.importorskip("ray")

from clipcls.engines.partitions import run_partitions  # noqa: E402
from clipcls.engines.ray import RayEngine, copies  # noqa: E402

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),  # Ray's own, of its own files and sockets
]

BATCH = 4
CRASHED = "not decoded: the decoder crashed"


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    # The workers do not have the folder of the tests on their path.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with RayEngine(RayOptions()) as engine:
        yield engine


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eighteen images, the fourth and ninth of which cannot be decoded."""
    paths = save_colours(tmp_path / "images", list(COLOURS) * 3)
    paths[3].write_bytes(b"no image")
    paths[8].write_bytes(paths[8].read_bytes()[:60])
    return tmp_path / "images"


def job(images: Path, output: Path, *, resume: bool = False) -> Job:
    return Job(
        Inputs((str(images),)),
        Question(make_labels(list(COLOURS)), ("<>",)),
        ModelChoice("mini", runtime=RuntimeOptions("cpu", batch_size=BATCH)),
        OutputOptions(output, resume=resume),
    )


def same_as_local(images: Path, output: Path) -> None:
    local = output.with_name("local" + output.suffix)
    run(job(images, local), encoder=FakeEncoder())
    assert output.read_bytes() == local.read_bytes()


class Collected(Observer):
    def __init__(self, act: Callable[[int], None] = lambda count: None) -> None:
        self.records: list[Record] = []
        self._act = act

    def scored(self, record: Record) -> None:
        self.records.append(record)
        self._act(len(self.records))

    def failures(self) -> dict[str, str]:
        return {Path(r.path).name: r.reason for r in self.records if isinstance(r, Failure)}


class Fatal(FakeEncoder):
    """Kills its process when it prepares an image of that width, as a faulty decoder would."""

    def __init__(self, width: int, loaded: Path, once: Path | None = None) -> None:
        super().__init__()
        self._width = width
        self._loaded = loaded
        self._once = once

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        with self._loaded.open("a") as log:
            log.write(f"{os.getpid()}\n")
        return super().encode_texts(prompts)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        if image.width == self._width and not (self._once and self._once.exists()):
            if self._once:
                self._once.touch()
            os.kill(os.getpid(), signal.SIGSEGV if self._once is None else signal.SIGKILL)
            time.sleep(60)
        return super().prepare(image)


class Slow(FakeEncoder):
    """Takes its time and says which process it is in."""

    def __init__(self, process: Path) -> None:
        super().__init__()
        self._process = process

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._process.write_text(str(os.getpid()))
        time.sleep(0.5)
        return super().encode_images(batch)


@pytest.mark.parametrize("output_format", OutputFormat)
def test_rows_are_those_of_a_local_run(
    engine: RayEngine, images: Path, tmp_path: Path, output_format: OutputFormat
) -> None:
    output = tmp_path / f"out.{output_format}"
    report = run(job(images, output), engine=engine, encoder=FakeEncoder())
    assert (report.done, report.failed, report.exit_code) == (16, 2, 3)
    same_as_local(images, output)


def test_images_and_cells_of_a_table_come_along(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    """Bytes in Parquet are read where they are decoded; kept cells stay with their rows."""
    files = sorted(images.iterdir())
    table = pa.table({"id": range(18), "image": [path.read_bytes() for path in files]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = DiscoveryOptions(image_column="image", keep=("id",))
    outputs = tmp_path / "local.csv", tmp_path / "ray.csv"
    for output, on in zip(outputs, (None, engine), strict=True):
        asked = job(tmp_path / "t.parquet", output)
        asked = replace(asked, inputs=replace(asked.inputs, discovery=found))
        assert run(asked, engine=on, encoder=FakeEncoder()).failed == 2
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert b"#17,17," in outputs[1].read_bytes()


def test_a_poisoned_image_fails_alone(engine: RayEngine, images: Path, tmp_path: Path) -> None:
    for name in ("5-white.png", "6-red.png"):
        Image.new("RGB", (97, 20), "blue").save(images / name)
    seen = Collected()
    encoder = Fatal(97, tmp_path / "loaded")
    run(job(images, tmp_path / "out.csv"), engine=engine, encoder=encoder, observer=seen)
    # The model is in another process, and stays there.
    assert len((tmp_path / "loaded").read_text().split()) == 1
    assert [record.index for record in seen.records] == list(range(18))
    reasons = seen.failures()
    assert {name for name, reason in reasons.items() if reason == CRASHED} == {
        "5-white.png",
        "6-red.png",
    }
    assert len(reasons) == 4


def test_a_decoder_killed_from_outside_costs_nothing(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (97, 20), COLOURS["white"]).save(images / "5-white.png")
    output = tmp_path / "out.csv"
    encoder = Fatal(97, tmp_path / "loaded", once=tmp_path / "died")
    run(job(images, output), engine=engine, encoder=encoder)
    assert (tmp_path / "died").exists()
    same_as_local(images, output)


def test_an_actor_killed_in_mid_run_costs_nothing(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(count: int) -> None:
        if count == BATCH:
            killed.append(int((tmp_path / "process").read_text()))
            os.kill(killed[0], signal.SIGKILL)

    output = tmp_path / "out.csv"
    encoder = Slow(tmp_path / "process")
    run(job(images, output), engine=engine, encoder=encoder, observer=Collected(kill))
    assert killed
    assert int((tmp_path / "process").read_text()) != killed[0]
    same_as_local(images, output)


class Deadly(FakeEncoder):
    """Kills its process each time a batch holds an image of that colour."""

    def __init__(self, colour: tuple[int, int, int], deaths: Path) -> None:
        super().__init__()
        self._colour = np.array(colour, np.uint8)[:, None, None]
        self._deaths = deaths

    def encode_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        if (batch == self._colour).all(axis=(1, 2, 3)).any():
            with self._deaths.open("a") as log:
                log.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return super().encode_images(batch)


def test_a_batch_that_kills_the_actor_each_time_ends_the_run(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    deadly = (1, 2, 3)
    Image.new("RGB", (20, 20), deadly).save(images / "5-white.png")
    output, deaths = tmp_path / "out.csv", tmp_path / "deaths"
    with pytest.raises(EngineError, match="dies of the same batch each time"):
        run(job(images, output), engine=engine, encoder=Deadly(deadly, deaths))
    assert len(set(deaths.read_text().split())) == 4
    # The rows before it are kept, and those of its own batch can be had.
    assert (tmp_path / "out.csv.part").read_text().count("\n") == 1 + BATCH
    report = run(job(images, output, resume=True), engine=engine, encoder=FakeEncoder())
    assert report.resumed == BATCH
    same_as_local(images, output)


def test_images_in_an_archive_are_read_by_the_tasks(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in images.iterdir():
            archive.write(path, path.name)
    inputs = Inputs((f"zip://{tmp_path}/images.zip",))
    for name, used in (("out.csv", engine), ("local.csv", None)):
        asked = dataclasses.replace(job(images, tmp_path / name), inputs=inputs)
        report = run(asked, engine=used, encoder=FakeEncoder())
        assert (report.done, report.failed) == (16, 2)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


DRIVER = """
import sys
from pathlib import Path
from tests.engines.test_ray import *
images, output, process = map(Path, sys.argv[1:])
ray.cloudpickle.register_pickle_by_value(sys.modules["tests.engines.test_ray"])
with RayEngine(RayOptions()) as engine:
    run(job(images, output), engine=engine, encoder=Slow(process))
"""


def test_a_run_whose_driver_was_killed_is_resumed(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    output, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(images), str(output), str(tmp_path / "process")],
        cwd=Path(__file__).parents[2],
    )
    while not part.exists() or part.read_bytes().count(b"\n") < 1 + BATCH:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert not output.exists()
    report = run(job(images, output, resume=True), engine=engine, encoder=FakeEncoder())
    assert report.resumed >= BATCH
    same_as_local(images, output)


class Broken(FakeEncoder):
    def encode_texts(self, prompts: object) -> NDArray[np.float32]:
        raise ModelError("no such weights")


def test_an_error_in_an_actor_is_the_error_of_the_run(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="^no such weights$"):
        run(job(images, tmp_path / "out.csv"), engine=engine, encoder=Broken())


def shard_run(images: Path, number: int, output: Path) -> bytes:
    """Return what a local run of one of three shards writes."""
    whole = job(images, output)
    shard = dataclasses.replace(whole.inputs, shard=Shard(number, 3))
    run(dataclasses.replace(whole, inputs=shard), encoder=FakeEncoder())
    return output.read_bytes()


@pytest.mark.parametrize(
    ("gpus", "each", "held"),
    [(8, 1, 8), (3, 2, 1), (2, 0.5, 4), (2, 0.6, 2), (1, 0.2, 5), (0, 0, 1)],
)
def test_a_machine_holds_as_many_copies_as_its_gpus(gpus: float, each: float, held: int) -> None:
    assert copies(gpus, each) == held


def test_more_gpus_than_any_machine_has_are_refused_before_the_output(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"GPU": 2.0}},
        {"Alive": False, "Resources": {"GPU": 9.0}},
    ]
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(
        OptionError, match="--num-gpus is 3 .* no machine of Ray has more GPUs than 2"
    ):
        run(job(images, tmp_path / "out.csv"), engine=RayEngine(RayOptions(num_gpus=3.0)))
    assert not list(tmp_path.glob("out.csv*"))


def test_partitions_are_shards_and_complete_ones_are_kept(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    folder, stopped = tmp_path / "out", Collected()
    parts = [folder / f"part-0000{number}.csv" for number in (1, 2, 3)]
    report = run_partitions(
        *(job(images, folder), 3, engine),
        encoder=FakeEncoder(),
        observer=stopped,
        should_stop=lambda: parts[0].exists(),
    )
    assert report.interrupted
    assert [part.exists() for part in parts] == [True, False, False]
    first = parts[0].stat().st_ino
    again = run_partitions(
        job(images, folder, resume=True), 3, engine, encoder=FakeEncoder(), observer=Collected()
    )
    assert parts[0].stat().st_ino == first
    assert again.resumed == len(parts[0].read_bytes().splitlines()) - 1
    # Whether a damaged image is among the resumed ones is up to the hash of its path.
    assert (again.counts.total(), again.failed, again.exit_code) == (16, 2, 3)
    for number, part in enumerate(parts, start=1):
        assert part.read_bytes() == shard_run(images, number, tmp_path / f"{number}.csv")
    merged = tmp_path / "merged.csv"
    merge_shards(read_shards(parts), merged)
    same_as_local(images, merged)


def test_files_of_more_partitions_are_not_left_among_fewer(
    engine: RayEngine, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00004.csv").touch()
    with pytest.raises(OptionError, match="part-00004.csv is of another run"):
        run_partitions(job(images, tmp_path / "out"), 3, engine, encoder=FakeEncoder())
