"""Device, precision and determinism: chosen here, once, with the reason."""

import contextlib
import ctypes
import os
from dataclasses import dataclass

import torch

from .errors import LabError, unknown

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICES = ("auto", "cpu", "cuda", "mps")
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Compute:
    """Where and how precisely to compute. ``str()`` of it says why."""

    device: torch.device
    precision: str
    why: str

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of ``precision``."""
        return PRECISIONS[self.precision]

    def autocast(self) -> torch.autocast:
        """Context in which matrix products and convolutions run in ``precision``."""
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.precision != "float32"
        )

    def __str__(self) -> str:
        return f"{self.device} in {self.precision} ({self.why})"


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """The device and precision to use.

    Args:
        device: "auto" takes CUDA, then Apple's MPS, then the CPU; or one of them by name.
        precision: "auto" takes bfloat16 where the hardware computes it natively, else float32;
            or "float32", "bfloat16", "float16".

    Raises:
        LabError: the device is unknown or not present, or the precision unknown.
    """
    kind = device.split(":")[0]
    if kind not in DEVICES:
        raise unknown("device", device, DEVICES)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if kind == "auto":
        device = kind = next(name for name in ("cuda", "mps", "cpu") if present[name])
    elif not present[kind]:
        raise LabError(f"device {device!r} is not present on this machine; use device='auto'.")
    if precision == "auto":
        native = _native_bfloat16(kind)
        precision = "bfloat16" if native else "float32"
        why = f"bfloat16 is {'' if native else 'not '}native here"
    elif precision in PRECISIONS:
        why = "as asked"
    else:
        raise unknown("precision", precision, ["auto", *PRECISIONS])
    return Compute(torch.device(device), precision, why)


def keep_freed_memory() -> None:
    """Let the C library keep what torch frees on a CPU, for the next step's tensors of that size.

    By default glibc hands large blocks back to the system and gets them again, zeroed page by page,
    at every step. Does nothing where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_MAX, 0)


def make_deterministic() -> None:
    """Same inputs, same numbers: deterministic kernels where torch has them, no autotuning."""
    # Vanishing gradients of an untrained network are otherwise many times slower on a CPU.
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling what is about to be written costs a CPU some 4% of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is torch running out of memory, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _native_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        # Matrix tiles. Without any torch emulates bfloat16; vector instructions alone (AVX512_BF16)
        # took 1.5 times as long as float32, at full size and at the tiny one.
        return torch.cpu._is_amx_tile_supported()
    return False
