"""Choice of device, precision and determinism."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..nn.compiling import compiling
from ..nn.int8 import int8, int8_kernels
from ..nn.tensor_memo import memoize_tensors
from .errors import LabError, unknown

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# int8, with weights and inputs rounded to eight bits, is for evaluation only.
EVALUATED = (*PRECISIONS, "int8")
DEVICES = ("auto", "cpu", "cuda", "mps")
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Compute:
    """Device and precision; ``str()`` includes the reason."""

    device: torch.device
    precision: str
    why: str
    compile: bool = False

    @property
    def trains(self) -> bool:
        """Whether models can be trained in ``precision``."""
        return self.precision in PRECISIONS

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Context in which matrix products and convolutions run in ``precision``.

        An inner context overrides the outer one, and ``compiled`` blocks run compiled only if
        ``compile`` is set. Without gradients, converted weights are memoized within the context, so
        weights must not change.
        """
        dtype = PRECISIONS.get(self.precision, torch.float32)
        with (
            memoize_tensors(),
            int8(self.precision == "int8"),
            compiling(self.compile),
            torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32),
        ):
            yield

    def __str__(self) -> str:
        compiled = ", compiled" if self.compile else ""
        return f"{self.device} in {self.precision}{compiled} ({self.why})"


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Context of plain float32, uncompiled, on any device; overrides outer contexts."""
    with int8(False), compiling(False), contextlib.ExitStack() as stack:
        for kind in DEVICES[1:]:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def choose_compute(device: str = "auto", precision: str = "auto", compile: bool = False) -> Compute:
    """Choose device and precision; on CUDA this also turns off TF32 for float32 convolutions.

    Args:
        device: "auto" prefers CUDA, then Apple's MPS, then the CPU; or one by name.
        precision: "auto" is bfloat16 if the hardware is fast at it, else float32; or "float32",
            "bfloat16", "float16"; for evaluation on a CPU also "int8", see ``Int8``.
        compile: whether models run their blocks by ``torch.compile``, see ``compiled``.

    Raises:
        LabError: an unknown or missing device, or a precision that is unknown, not available there
            or cannot be compiled.
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
        fast = _fast_bfloat16(kind)
        precision = "bfloat16" if fast else "float32"
        why = f"bfloat16 is {'' if fast else 'not '}fast here"
    elif precision not in EVALUATED:
        raise unknown("precision", precision, ["auto", *EVALUATED])
    elif precision == "int8" and not (kind == "cpu" and int8_kernels()):
        raise LabError(
            "precision='int8' is for CPUs (x86) only: use another precision, or device='cpu'."
        )
    else:
        why = "as asked"
    if kind == "cuda":
        # By default torch rounds the inputs of float32 convolutions to 10 bits on CUDA.
        torch.backends.cudnn.allow_tf32 = False
    if compile and precision == "int8":
        raise LabError("precision='int8' cannot be compiled: leave compile out.")
    return Compute(torch.device(device), precision, why, compile)


def keep_freed_memory() -> None:
    """Let the C library reuse memory freed by torch on a CPU.

    By default glibc returns large blocks to the system and requests them again, zeroed, at every
    step. Has no effect with other C libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_MAX, 0)


def make_deterministic() -> None:
    """Select deterministic kernels where torch has them, without autotuning."""
    # Subnormal gradients of an untrained network are many times slower on a CPU.
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling new tensors costs a CPU some 4% of a training step. By name, as torch gives no type.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    torch.backends.cudnn.benchmark = False


def synchronize(device: torch.device) -> None:
    """Wait for all work queued on ``device``; a CPU has no queue."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that torch ran out of memory, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _fast_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        # Only matrix tiles make bfloat16 fast. With AVX-512's instructions for it alone, 1024x1024
        # products took 1.7 times as long as in float32, a teacher's step 1.6 times.
        return torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - no public name
    return False
