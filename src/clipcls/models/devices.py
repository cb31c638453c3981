"""Where and in which number format the model runs, and why."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

from clipcls.errors import DeviceError, OptionError
from clipcls.options import Precision, RuntimeOptions

_BATCH_SIZES = {"cpu": 32, "cuda": 256}
_OTHER_BATCH_SIZE = 64
_MIN_WORKERS, _MAX_WORKERS = 2, 16
_ALLOWED = "auto, cpu, cuda, cuda:N, mps, xpu"

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Linux' names of the two instruction sets of x86 that multiply matrices of bfloat16."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

# CUDA's allocator has an exception of its own; all others, and CUDA's libraries, only have words.
_says_out_of_memory = re.compile(
    r"out[ _-]?of[ _-]?(device[ _]|host[ _])?memory|not enough memory|can(no|')t allocate memory"
    r"|STATUS_ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
).search
_names_an_accelerator = re.compile(
    r"\b(CUDA|cuDNN|cuBLAS|HIP|MIOpen|MPS|XPU|SYCL)\b|\b(CUBLAS|CUDNN|HIPBLAS|ROCBLAS|UR)_[A-Z]"
).search


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """What a run uses; nothing in it is `auto` any more.

    Attributes:
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `xpu`.
        precision: Number format of weights and activations, never `AUTO`.
        batch_size: Images per forward pass.
        workers: Decode threads.
        reason: Why this device and precision, for the user.
    """

    device: str
    precision: Precision
    batch_size: int
    workers: int
    reason: str

    @property
    def in_flight(self) -> int:
        """How many batches are worked on at once: a GPU computes one while it is sent another."""
        return 2 if self.device.startswith("cuda") else 1


def choose_device(options: RuntimeOptions) -> DeviceChoice:
    """Turn the user's wishes and what this machine has into a choice.

    Raises:
        OptionError: The device is none of those we know.
        DeviceError: The device is not there, or cannot compute in the precision.
    """
    device = options.device
    kind, colon, index = device.partition(":")
    numbered = kind == "cuda" and index.isdecimal()
    if kind not in {"auto", "cpu", "cuda", "mps", "xpu"} or (colon and not numbered):
        raise OptionError(f"there is no device {device}: --device takes {_ALLOWED}")
    # Who asks for the CPU does not wait for torch.
    present = {} if kind == "cpu" else _accelerators()
    present["cpu"] = f"{usable_cpus()} usable CPU core{'s' if usable_cpus() > 1 else ''}"
    if kind == "auto":
        device = kind = next(iter(present))
        reason = present[kind] + ("; no GPU that torch can use" if kind == "cpu" else "")
    else:
        _check_present(device, present)
        reason = f"{present[kind]}, as asked"
    precision, why = _choose_precision(options.precision, kind)
    return place(device, precision, f"{reason}; {why}", options)


def choose_elsewhere(kind: str, reason: str, options: RuntimeOptions) -> DeviceChoice:
    """Return what other machines use, where it will be found out whether they can.

    Args:
        kind: Their kind of device.
        reason: Why it is this one, for the user.
        options: The user's wishes.

    Raises:
        OptionError: The user asked for another device.
    """
    if options.device not in ("auto", kind):
        raise OptionError(f"--device {options.device}: with these --num-gpus it is {kind}")
    precision, why = options.precision, f"{options.precision}, as asked"
    if precision is Precision.AUTO:
        precision, why = _choose_precision(precision, kind)
    return place(kind, precision, f"{reason}; {why}", options)


def place(device: str, precision: Precision, reason: str, options: RuntimeOptions) -> DeviceChoice:
    """Return the choice of a device and precision, with the batch size and workers for it."""
    kind = device.partition(":")[0]
    return DeviceChoice(
        device=device,
        precision=precision,
        batch_size=options.batch_size or _BATCH_SIZES.get(kind, _OTHER_BATCH_SIZE),
        workers=options.workers or min(max(usable_cpus(), _MIN_WORKERS), _MAX_WORKERS),
        reason=reason,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory, the device's or the machine's, did not suffice."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and bool(_says_out_of_memory(str(error)))
    )


def is_device_trouble(error: BaseException) -> bool:
    """Return whether the device is to blame: its memory, its driver or what it cannot compute."""
    return is_out_of_memory(error) or (
        isinstance(error, RuntimeError) and bool(_names_an_accelerator(str(error)))
    )


def free_cached_memory() -> None:
    """Give back what torch keeps of the device's memory for later."""
    import torch

    for present, backend in (
        (torch.cuda.is_available, torch.cuda),
        (torch.xpu.is_available, torch.xpu),
        (torch.backends.mps.is_available, torch.mps),
    ):
        if present():
            backend.empty_cache()


def usable_cpus() -> int:
    """Return how many CPUs this process may run on, as far as its affinity says.

    Affinity is what `taskset`, batch systems and containers pinned to cores set. A limit on time
    (a cgroup quota, as of `docker run --cpus`) is not seen: `--workers` is for those.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for later, in the whole process; Linux with glibc only.

    A model frees and takes the same large blocks in every batch. As it is, glibc gives them back to
    the system each time, and a convolutional tower spends a third of its time on getting them
    again (`benchmarks/README.md`). It is for programs that own their process, as the command line
    does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    # glibc before 2.35 allows no more than 32 MiB.
    if not mallopt(_M_MMAP_THRESHOLD, 2**30):
        mallopt(_M_MMAP_THRESHOLD, 2**25)


def _computes_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 products, as far as Linux says it; torch is not asked.

    Without them the format is emulated, which takes several times as long as float32.
    """
    try:
        flags = re.search(r"^flags\s*:(.*)$", _CPUINFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and not _BFLOAT16_FLAGS.isdisjoint(flags[1].split())


def _accelerators() -> dict[str, str]:
    """Return the kinds of device that work here, the best first, with a description of each."""
    import torch

    found: dict[str, str] = {}
    if torch.cuda.is_available():
        # ROCm shows itself as CUDA; its users look for their own word.
        platform, count = "ROCm" if torch.version.hip else "CUDA", torch.cuda.device_count()
        several = f"{count} x " if count > 1 else ""
        found["cuda"] = f"{platform}, {several}{torch.cuda.get_device_name(0)}"
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found["xpu"] = "Intel GPU"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _check_present(device: str, present: dict[str, str]) -> None:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return
    import torch

    if kind not in present:
        there = ", ".join(f"{name} ({text})" for name, text in present.items())
        without = kind == "cuda" and torch.version.cuda is None and torch.version.hip is None
        why = " (the installed torch is a build without CUDA and ROCm)" if without else ""
        raise DeviceError(
            f"--device {device}: this machine has no {kind.upper()} device that torch can use{why};"
            f" it has {there}"
        )
    if index and int(index) >= (count := torch.cuda.device_count()):
        allowed = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"--device {device}: this machine has {allowed} only")


def _choose_precision(wish: Precision, kind: str) -> tuple[Precision, str]:
    if wish is Precision.AUTO:
        if kind == "cuda":
            return Precision.FP16, "fp16: half precision, fastest there"
        if kind == "cpu" and _computes_bfloat16():
            return Precision.BF16, "bf16: this CPU computes in it, fastest there"
        return Precision.FP32, "fp32: full precision"
    if wish is Precision.BF16 and kind == "cuda":
        import torch

        if not torch.cuda.is_bf16_supported():
            raise DeviceError(
                "--precision bf16: this GPU does not compute in bfloat16, take fp16 or fp32"
            )
    if wish is Precision.FP16 and kind == "cpu":
        # Measured on x86: a ViT-B-32 takes about ten times as long. It is right, so it is allowed.
        return wish, "fp16, as asked, which most CPUs emulate: fp32 and bf16 are far faster"
    return wish, f"{wish}, as asked"
