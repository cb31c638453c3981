"""The choice of device, precision, batch size and worker count."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clipcls.errors import DeviceError, OptionError
from clipcls.models.devices import (
    choose_device,
    is_device_trouble,
    is_out_of_memory,
    keep_freed_memory,
    usable_cpus,
)
from clipcls.options import Precision, RuntimeOptions


@pytest.fixture(autouse=True)
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(part, "is_available", lambda: False)


def give_cuda(monkeypatch: pytest.MonkeyPatch, count: int = 1, hip: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Test GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.version, "hip", hip)


def test_cpu_by_default_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipcls.models.devices.usable_cpus", lambda: 6)
    choice = choose_device(RuntimeOptions())
    assert (choice.device, choice.precision) == ("cpu", Precision.FP32)
    assert (choice.batch_size, choice.workers) == (32, 6)
    assert "6 usable CPU cores" in choice.reason


@pytest.mark.parametrize(("cpus", "workers"), [(1, 2), (3, 3), (64, 16)])
def test_workers_are_bounded(monkeypatch: pytest.MonkeyPatch, cpus: int, workers: int) -> None:
    monkeypatch.setattr("clipcls.models.devices.usable_cpus", lambda: cpus)
    assert choose_device(RuntimeOptions()).workers == workers


def test_what_the_user_says_counts() -> None:
    choice = choose_device(RuntimeOptions("cpu", Precision.BF16, batch_size=7, workers=1))
    assert (choice.precision, choice.batch_size, choice.workers) == (Precision.BF16, 7, 1)


def test_cuda_comes_first_and_runs_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cuda(monkeypatch)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    choice = choose_device(RuntimeOptions())
    assert (choice.device, choice.precision, choice.batch_size) == ("cuda", Precision.FP16, 256)
    assert "CUDA, Test GPU" in choice.reason


def test_rocm_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cuda(monkeypatch, hip="6.4")
    choice = choose_device(RuntimeOptions())
    assert choice.device == "cuda"
    assert "ROCm" in choice.reason


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_other_accelerators_stay_in_float32(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    part = torch.xpu if kind == "xpu" else torch.backends.mps
    monkeypatch.setattr(part, "is_available", lambda: True)
    choice = choose_device(RuntimeOptions())
    assert (choice.device, choice.precision, choice.batch_size) == (kind, Precision.FP32, 64)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "xpu"])
def test_absent_device_is_refused_with_what_there_is(device: str) -> None:
    with pytest.raises(
        DeviceError, match=rf"--device {device}: this machine has no .*; it has cpu \("
    ):
        choose_device(RuntimeOptions(device))


def test_messages_read_plainly() -> None:
    with pytest.raises(DeviceError, match="no CUDA device that torch can use.*; it has cpu"):
        choose_device(RuntimeOptions("cuda"))
    assert choose_device(RuntimeOptions("cpu")).reason.endswith("as asked; fp32: full precision")


def test_the_cpu_is_chosen_without_torch() -> None:
    code = (
        "import sys; from clipcls.models.devices import choose_device;"
        "from clipcls.options import RuntimeOptions; choose_device(RuntimeOptions('cpu'));"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "CUDA", "cuda:-1"])
def test_unknown_device_is_refused_with_the_allowed_ones(device: str) -> None:
    with pytest.raises(OptionError, match="--device takes auto, cpu, cuda, cuda:N, mps, xpu"):
        choose_device(RuntimeOptions(device))


def test_numbered_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cuda(monkeypatch, count=2)
    assert choose_device(RuntimeOptions("cuda:1")).device == "cuda:1"
    with pytest.raises(DeviceError, match="cuda:0 to cuda:1"):
        choose_device(RuntimeOptions("cuda:2"))


def test_bfloat16_is_refused_where_the_gpu_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    give_cuda(monkeypatch)
    with pytest.raises(DeviceError, match="bf16"):
        choose_device(RuntimeOptions(precision=Precision.BF16))


def test_half_precision_on_a_cpu_is_done_and_called_slow() -> None:
    choice = choose_device(RuntimeOptions("cpu", Precision.FP16))
    assert choice.precision is Precision.FP16
    assert "far faster" in choice.reason


OUT_OF_MEMORY: list[Exception] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.0 GB, max allowed: 9.07 GB)."),
    RuntimeError(
        "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
    ),
    MemoryError(),
]
DEVICE_TROUBLE: list[Exception] = [
    RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("HIP error: invalid device function"),
    NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device."),
]
NEITHER: list[Exception] = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 5x4)"),
    RuntimeError('Unexpected key(s) in state_dict: "our_memory", "hip.proj", "cuda_ur_x".'),
    ValueError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY, *DEVICE_TROUBLE, *NEITHER])
def test_the_device_s_troubles_are_told_apart(error: Exception) -> None:
    assert is_out_of_memory(error) is (error in OUT_OF_MEMORY)
    assert is_device_trouble(error) is (error not in NEITHER)


def test_torch_itself_says_that_memory_is_out_in_words_that_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)


def test_usable_cpus_respects_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 9}, raising=False)
    assert usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus() == (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx512f avx512_bf16 amx_tile", Precision.BF16),
        ("fpu amx_bf16", Precision.BF16),
        ("fpu avx512f avx512bw avx512_bf16x", Precision.FP32),
        ("", Precision.FP32),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_computes_in_it(
    flags: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n")
    monkeypatch.setattr("clipcls.models.devices._CPUINFO", cpuinfo)
    choice = choose_device(RuntimeOptions(device="cpu"))
    assert (choice.precision, str(precision) in choice.reason) == (precision, True)
    asked = choose_device(RuntimeOptions(device="cpu", precision=Precision.FP32))
    assert asked.precision is Precision.FP32


def test_a_system_without_cpuinfo_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipcls.models.devices._CPUINFO", tmp_path / "none")
    assert choose_device(RuntimeOptions(device="cpu")).precision is Precision.FP32


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_stays_with_the_process() -> None:
    """Large blocks are faulted in once, not in every round."""
    code = (
        "import resource, sys\n"
        "from clipcls.models.devices import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': keep_freed_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def round(): blocks = [bytearray(b'x') * (48 << 20) for _ in range(3)]\n"
        "round(); before = faults()\n"
        "for _ in range(4): round()\n"
        "print(faults() - before)"
    )
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True).stdout)
        for how in ("keep", "as it is")
    )
    assert kept < given_back / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    keep_freed_memory()
