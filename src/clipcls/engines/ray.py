"""A run on Ray: images are decoded in tasks, embedded and scored by actors, written here.

The batches are those of a local run, cut by input position, and each travels as one row of a
dataset of Ray Data, whose order is kept. What is done with it is the code of a local run.

A decoder can take its process down with it (a fault in a C library, memory that runs out), and Ray
then tries the batch again, which would go on for ever. So each attempt is counted outside of the
process that makes it, and from the second on every image is decoded in a process of its own: the
one that it was fails, its neighbours do not.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    redirect_stdout,
)
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from clipcls.classifier import Classifier
from clipcls.embed import Prepared, Stages, encoded, prepare
from clipcls.errors import (
    ClipclsError,
    DecodeError,
    EngineError,
    MissingExtraError,
    ModelError,
    OptionError,
)
from clipcls.inputs.pillow import lift_pillow_limit
from clipcls.inputs.refs import ImageRef
from clipcls.models.devices import DeviceChoice, choose_elsewhere, keep_freed_memory, usable_cpus
from clipcls.models.weights import first_line
from clipcls.options import RayOptions, RuntimeOptions
from clipcls.records import Failure, Record
from clipcls.run import Scoring
from clipcls.scoring import score

if TYPE_CHECKING:
    from clipcls.models.base import Preparer

_TRIES_ALONE = 2
"""Of an image that is suspected: the first process may have died of something else."""

_TRIES_TO_ENCODE = 4
"""Of a batch; Ray itself would start an actor that dies of it again and again."""

_MOST_OBJECT_STORE_BYTES = 1 << 30
"""Of a Ray that is started here. Ray Data decodes ahead until half of it is full."""


class RayEngine(AbstractContextManager["RayEngine"]):
    """A cluster, or a Ray of this machine that lives as long as this; implements `Engine`.

    Args:
        options: Which cluster, and how much of it.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, options: RayOptions) -> None:
        # Ray reports its use over the network and writes warnings to the terminal, if it may.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # As high a priority as a local run has; a Ray that is started here would take the lowest.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray.data
        except ImportError as error:
            raise MissingExtraError("--engine ray", "ray") from error
        self._options = options
        self._exit = ExitStack()
        self._gpus = 0.0
        self._ray = ray

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def device(self, classifier: Classifier) -> DeviceChoice:
        """Connect, and return what the actors will use.

        Raises:
            EngineError: The cluster cannot be reached.
            OptionError: None of its machines has so many GPUs.
        """
        self._connect()
        most = max(self._machines(), default=0.0)
        wanted = self._options.num_gpus
        self._gpus = min(most, 1.0) if wanted is None else wanted
        if self._gpus > most:
            raise OptionError(
                f"--num-gpus is {self._gpus:g} for a copy of the model, and no machine of Ray has"
                f" more GPUs than {most:g}"
            )
        kind = "cuda" if self._gpus else "cpu"
        reason = f"{self._gpus:g} GPUs of Ray for each copy" if self._gpus else "Ray, without GPUs"
        return choose_elsewhere(kind, reason, classifier.runtime)

    def scoring(
        self,
        classifier: Classifier,
        refs: Iterable[ImageRef],
        stages: Stages,
        should_stop: Callable[[], bool],
    ) -> Scoring:
        """Return what scores the images there; see `Engine`."""
        return _Scoring(self, classifier, refs, stages.batch_size, should_stop)

    def scored(
        self, classifier: Classifier, batches: Iterable[list[ImageRef]]
    ) -> Generator[list[Record], None, None]:
        """Yield the records of each batch, in their order; all batches are taken first."""
        # As objects they would take ten times the memory.
        rows = [
            {"batch": number, "refs": zlib.compress(pickle.dumps(batch), 1)}
            for number, batch in enumerate(batches)
        ]
        if not rows:
            return
        device = self.device(classifier)
        runtime = RuntimeOptions(device.device, device.precision, device.batch_size)
        work = _Work(
            classifier.elsewhere(runtime),
            classifier.fingerprint(device.precision),
            self._ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote(),
        )
        ray_data = self._ray.data
        told = set()
        with _explained(self._ray):
            actors = self._actors(len(rows))
            dataset = ray_data.from_items(rows, override_num_blocks=len(rows))
            del rows  # they are in Ray's memory now
            dataset = dataset.map(_decoded, fn_kwargs={"work": work}, num_cpus=1).map(
                _Actor,
                fn_constructor_kwargs={"work": work},
                compute=ray_data.ActorPoolStrategy(size=actors),
                num_gpus=self._gpus,
                # Not one, as decoding has, or Ray Data would put both into one process, where a
                # decoder could kill the model. On CPUs they share the cores, as in a local run.
                num_cpus=0,
            )
            for row in dataset.iter_rows():
                warnings, records, failed = pickle.loads(row["records"])
                for message in warnings:
                    if message not in told:
                        told.add(message)
                        classifier.warn(message)
                if failed:
                    raise EngineError(failed)
                yield records

    def _actors(self, batches: int) -> int:
        """Return how many copies of the model compute: all that the GPUs hold, or one per node."""
        return min(batches, sum(copies(gpus, self._gpus) for gpus in self._machines()))

    def _machines(self) -> list[float]:
        """Return how many GPUs each machine has."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return [node["Resources"].get("GPU", 0.0) for node in nodes]

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        address = self._options.address
        here: dict[str, Any] = {
            "num_cpus": max(usable_cpus(), 2),
            "include_dashboard": False,
            "object_store_memory": _MOST_OBJECT_STORE_BYTES,
        }
        # What Ray has to say of its processes goes to standard output, where the rows are.
        self._exit.enter_context(redirect_stdout(sys.stderr))
        try:
            with _silent():
                self._ray.init(
                    address=address or "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **({} if address else here),
                )
        except Exception as error:  # Ray has none of its own for this
            where = f"the cluster {address} cannot be reached" if address else "Ray cannot start"
            raise EngineError(f"{where}: {first_line(error)}") from error
        self._exit.callback(self._ray.shutdown)
        context = self._ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = True
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def cut(refs: Iterable[ImageRef], size: int) -> Iterator[list[ImageRef]]:
    """Yield references by batches, as a local run cuts them."""
    left = iter(refs)
    return iter(lambda: list(islice(left, size)), [])


def copies(gpus: float, each: float) -> int:
    """Return how many copies of a model one machine holds, as Ray splits no copy over two GPUs.

    Args:
        gpus: What the machine has.
        each: What a copy gets, a part of one or a whole number; 0 is for machines without.
    """
    if not each:
        return 1
    return int(gpus) * int(1 / each) if each < 1 else int(gpus / each)


class _Scoring:
    """Scores on the cluster; implements `Scoring`."""

    cached = 0

    def __init__(
        self,
        engine: RayEngine,
        classifier: Classifier,
        refs: Iterable[ImageRef],
        batch_size: int,
        should_stop: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._classifier = classifier
        self._refs = refs
        self._batch_size = batch_size
        self._should_stop = should_stop
        self.interrupted = False

    def load(self, *, ahead: bool) -> None:
        """Do nothing: the actors load the model."""

    def batches(self) -> Iterator[list[Record]]:
        """Yield the records; all references are taken first."""
        count = 0

        def counted() -> Iterator[list[ImageRef]]:
            nonlocal count
            for count, batch in enumerate(cut(self._refs, self._batch_size), start=1):  # noqa: B007
                yield batch

        with closing(self._engine.scored(self._classifier, counted())) as scored:
            for done, records in enumerate(scored, start=1):
                yield records
                if self._should_stop():
                    self.interrupted = done < count
                    return

    def close(self) -> None:
        """Do nothing: the dataset ends with its rows."""


class _Work(NamedTuple):
    """What tasks and actors are told.

    Attributes:
        classifier: With nothing loaded.
        fingerprint: Of the model; another machine may have other weights by the same name.
        attempts: The actor that counts.
    """

    classifier: Classifier
    fingerprint: str
    attempts: Any


class _Attempts:
    """Counts how often each batch was begun, where no decoder can do harm."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, int]] = Counter()

    def begin(self, step: str, batch: int) -> int:
        """Return how often this step was begun with this batch before."""
        self._begun[step, batch] += 1
        return self._begun[step, batch] - 1


def _decoded(row: Mapping[str, Any], work: _Work) -> dict[str, Any]:
    """Read, decode and prepare a batch; a task of one CPU."""
    import ray

    number, refs = int(row["batch"]), pickle.loads(zlib.decompress(row["refs"]))
    if ray.get(work.attempts.begin.remote("decode", number)):
        alone = ray.remote(num_cpus=1, max_retries=0)(_prepared)
        images = [_prepared_alone(ray, alone, ref, work) for ref in refs]
    else:
        images = _prepared(refs, work)
    # Where an image is read from is of no use any more.
    batch = [(replace(ref, source=None), image) for ref, image in zip(refs, images, strict=True)]
    return {"batch": number, "images": pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)}


def _prepared(refs: list[ImageRef], work: _Work) -> list[Prepared]:
    preparer = _preparer(work.fingerprint, work.classifier)
    decode = work.classifier.decode
    lift_pillow_limit(decode.max_megapixels)
    downloads = max((ref.source.concurrency for ref in refs if ref.source), default=1)
    with ThreadPoolExecutor(downloads) as pool:
        return [
            data if isinstance(data, Failure) else prepare(ref, data, preparer, decode)
            for ref, data in zip(refs, pool.map(_fetched, refs), strict=True)
        ]


def _fetched(ref: ImageRef) -> bytes | Failure | None:
    try:
        return ref.source.read(Event()) if ref.source else None
    except DecodeError as error:
        return Failure(ref.index, ref.path, str(error), ref.kept)


def _prepared_alone(ray: Any, task: Any, ref: ImageRef, work: _Work) -> Prepared:
    """Prepare an image in a process of its own."""
    reason = ""
    for _ in range(_TRIES_ALONE):
        try:
            [prepared] = ray.get(task.remote([ref], work))
        except ray.exceptions.OutOfMemoryError:
            reason = "not enough memory to decode it"
        except ray.exceptions.WorkerCrashedError:
            reason = "not decoded: the decoder crashed"
        else:
            return prepared  # type: ignore[no-any-return]
    return Failure(ref.index, ref.path, reason, ref.kept)


@lru_cache(maxsize=1)
def _preparer(fingerprint: str, classifier: Classifier) -> Preparer:
    return classifier.preparer


class _Actor:
    """Embeds and scores batches with a model that it keeps.

    What goes wrong is told with the first batch: Ray makes a page of what a constructor raises.

    Args:
        work: What is asked, and with which model.
    """

    def __init__(self, work: _Work) -> None:
        keep_freed_memory()
        self._work = work
        self._warnings: list[str] = []
        self._failed = ""
        work.classifier.warn = self._warnings.append
        try:
            self._load()
        except ClipclsError as error:
            self._failed = str(error)

    def _load(self) -> None:
        classifier = self._work.classifier
        device = classifier.device
        if device.device == "cpu":
            import torch

            # Ray grants one thread; as in a local run, decoding and computing share all cores.
            torch.set_num_threads(usable_cpus())
        if classifier.fingerprint(device.precision) != self._work.fingerprint:
            raise ModelError(f"{classifier.name} has other weights on the machines of the cluster")
        _ = classifier.scorer

    def __call__(self, row: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the warnings so far, the records of a batch, and why there are none."""
        records: list[Record] = []
        if not self._failed:
            try:
                records = self._scored(int(row["batch"]), pickle.loads(row["images"]))
            except ClipclsError as error:
                self._failed = str(error)
        answer = (self._warnings, records, self._failed)
        return {"records": pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)}

    def _scored(self, number: int, batch: list[tuple[ImageRef, Prepared]]) -> list[Record]:
        import ray

        if ray.get(self._work.attempts.begin.remote("encode", number)) >= _TRIES_TO_ENCODE:
            raise EngineError("the process that runs the model dies of the same batch each time")
        classifier = self._work.classifier
        return list(score(encoded(batch, classifier.encoder), classifier.scorer))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what libraries in C write to the terminal away from it."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """Turn what Ray raises into one line.

    Raises:
        EngineError: It has failed.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = lines[-1].strip() if lines else type(error).__name__
        raise EngineError(f"Ray has failed: {why}") from error
