"""Device, precision and determinism: chosen here, once, with the reason."""

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
# In the last one, weights and inputs rounded to eight bits, a model cannot be trained.
EVALUATED = (*PRECISIONS, "int8")
DEVICES = ("auto", "cpu", "cuda", "mps")
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Compute:
    """Where and how precisely to compute. ``str()`` of it says why."""

    device: torch.device
    precision: str
    why: str
    compile: bool = False

    @property
    def trains(self) -> bool:
        """Whether gradients can be had in ``precision``."""
        return self.precision in PRECISIONS

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Context in which matrix products and convolutions run in ``precision``.

        In a block within another the inner one's precision holds, and ``compiled`` blocks run
        compiled only where its ``compile`` is set. Without gradients, weights are turned into what
        these want once in it: they must stay.
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
    """Context of plain float32, uncompiled, whatever surrounds the block and on any device."""
    with int8(False), compiling(False), contextlib.ExitStack() as stack:
        for kind in DEVICES[1:]:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def choose_compute(device: str = "auto", precision: str = "auto", compile: bool = False) -> Compute:
    """The device and precision to use; on CUDA, from then on float32 convolutions are no TF32.

    Args:
        device: "auto" takes CUDA, then Apple's MPS, then the CPU; or one of them by name.
        precision: "auto" takes bfloat16 where the hardware is fast at it, else float32;
            or "float32", "bfloat16", "float16"; to evaluate on a CPU also "int8", see ``Int8``.
        compile: whether models are to run their blocks by ``torch.compile``, see ``compiled``.

    Raises:
        LabError: the device is unknown or not present, or the precision unknown or not to be had
            there, or not to be compiled.
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
            "precision='int8' is for CPUs of the x86 kind: use another, or device='cpu'."
        )
    else:
        why = "as asked"
    if kind == "cuda":
        # By default torch rounds the inputs of float32 convolutions to 10 bits there.
        torch.backends.cudnn.allow_tf32 = False
    if compile and precision == "int8":
        raise LabError("precision='int8' has kernels of its own: leave compile out.")
    return Compute(torch.device(device), precision, why, compile)


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


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done all work given to it; a CPU has at once."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is torch running out of memory, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _fast_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        # Matrix tiles alone make bfloat16 pay. With AVX-512's instructions for it and no tiles,
        # products of 1024x1024 took 1.7 times as long as in float32, a teacher's step 1.6 times.
        return torch.cpu._is_amx_tile_supported()
    return False
