"""The machine a run finds itself on: device, number format, threads, memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
from pathlib import Path

import torch

from ptft.errors import UserError

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
# what torch, the C++ library and oneDNN say on a CPU
NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "could not create a primitive")
# glibc's mallopt parameters: keep freed memory instead of giving pages back after every step
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes the accelerator if there is one.

    Raises UserError where the machine has no such device.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device={name}: this machine has no such device ({reason}); use device=auto or cpu") from None
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """fp32, bf16 or fp16; `auto` takes bf16 where the hardware multiplies in it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        return "bf16" if _cpu_multiplies_bf16() else "fp32"
    return "fp32"


def _cpu_multiplies_bf16() -> bool:
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The autocast context of a precision; nothing at all in fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


def keep_memory() -> None:
    """Tell glibc to keep freed memory: training frees and takes the same gigabyte every step."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((MMAP_THRESHOLD, 1 << 30), (TRIM_THRESHOLD, (1 << 31) - 1), (TOP_PAD, 64 << 20)):
        libc.mallopt(parameter, value)


def peak_memory(device: torch.device) -> int:
    """The most memory this process has held, in bytes, since the start or forget_peak: on the device, or resident for a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, KeyError):  # getrusage would count what the parent process held
        return 1024 * _numbers(Path("/proc/self/status"))["VmHWM:"]
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak(device: torch.device) -> None:
    """Free what is held for later use and measure the peak anew; where a system cannot, the old peak stays."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    if sys.platform != "linux":
        return
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def free_memory(device: torch.device) -> int:
    """How many bytes this process may still take: on the device, or of the machine and its control group for a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found, group = [sys.maxsize], Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, KeyError):
        found.append(1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"])
    with contextlib.suppress(OSError, KeyError, ValueError):  # "max" where there is no limit
        found.append(int((group / "memory.max").read_text()) - _numbers(group / "memory.stat")["anon"])
    return min(found)


def _numbers(path: Path) -> dict[str, int]:
    """The first number behind the first word of each line."""
    lines = (line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or a CPU."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def describe(device: torch.device, precision: str) -> str:
    """One phrase for the run card."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({name}), {torch.get_num_threads()} threads, {precision}"
