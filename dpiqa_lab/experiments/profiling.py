"""Rates of a device, and time, operations, bytes and memory of a call."""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..core.device import PRECISIONS, synchronize

Call = Callable[[], object]
# Kind of a torch kernel by name; the first match counts.
_KINDS = {
    "products": r"mm$|addmm|bmm|convolution|qconv|linear|scaled_dot|attention",
    "copies": r"copy_|_to_copy|clone|cat$|contiguous|reorder",
}


class Candidate(NamedTuple):
    """A call to be timed, and a context around it that is not."""

    call: Call
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def timed(call: Call, device: torch.device) -> float:
    """Seconds of a call, the device's work included.

    With one CPU thread, processor time, which other programs do not affect.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    synchronize(device)
    began = clock()
    call()
    synchronize(device)
    return clock() - began


def interleaved(
    candidates: Mapping[str, Candidate], rounds: int, device: torch.device
) -> dict[str, float]:
    """Minimum seconds of each candidate over rounds in which they alternate.

    Alternation makes temporary slowdowns of the machine affect all alike.
    """
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, candidate in candidates.items():
            with candidate.around():
                best[name] = min(best[name], timed(candidate.call, device))
    return best


@torch.no_grad()
def floors(device: torch.device, precisions: Sequence[str], rounds: int = 5) -> pd.DataFrame:
    """Measured peak rates of the device.

    Returns:
        A row per precision: precision, products (operations a second of a large matrix product; a
        multiplication and an addition are two) and copy (bytes a second, read and written).
    """
    side, count = (8192, 2**28) if device.type == "cuda" else (1536, 2**25)
    rows = []
    for precision in precisions:
        dtype = PRECISIONS.get(precision, torch.int8)
        product = torch._int_mm if dtype == torch.int8 else torch.mm  # noqa: SLF001 - no public one
        a, b = (torch.randn(side, side, device=device).mul(20).to(dtype) for _ in "ab")
        source = torch.ones(count, device=device, dtype=dtype)
        target = torch.empty_like(source)
        ways = {
            "products": Candidate(partial(product, a, b)),
            "copy": Candidate(partial(target.copy_, source)),
        }
        best = interleaved(ways, rounds + 1, device)
        rows.append(
            {
                "precision": precision,
                "products": 2 * side**3 / best["products"],
                "copy": 2 * source.nbytes / best["copy"],
            }
        )
    return pd.DataFrame(rows)


def counted(call: Call) -> tuple[int, int]:
    """Operations of a call (matrix products, convolutions, attention), and bytes.

    Bytes are read and written by each kernel, without caches. For int8 both are as in float32, as
    torch cannot count its kernels.
    """
    with (
        torch._C.DisableTorchFunction(),  # noqa: SLF001 - not public elsewhere
        FlopCounterMode(display=False) as operations,
        _Traffic() as traffic,
    ):
        call()
    return operations.get_total_flops(), traffic.bytes


class Profile(NamedTuple):
    """Seconds of a call's kernels by kind, and its peak memory in bytes."""

    seconds: dict[str, float]
    peak: int


def profiled(call: Call, device: torch.device) -> Profile:
    """Time of a call by kind of kernel; the profiler slows small kernels."""
    cuda = device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    profiler = torch.profiler.profile(activities=activities, profile_memory=not cuda)
    with _quiet(), profiler as profile:
        call()
        synchronize(device)
    seconds = dict.fromkeys((*_KINDS, "elementwise"), 0.0)
    for event in profile.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        seconds[_kind(event.key)] += spent / 1e6
    if cuda:
        return Profile(seconds, torch.cuda.max_memory_allocated(device) - before)
    return Profile(seconds, _peak_memory(profile))


def _peak_memory(profile: Any) -> int:  # noqa: ANN401 - torch's internal events
    """Peak of torch's allocations during a profile, in bytes."""
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = (e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(0, *itertools.accumulate(changes), 0)


def _kind(kernel: str) -> str:
    return next((kind for kind, names in _KINDS.items() if re.search(names, kernel)), "elementwise")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the process's stderr, which the profiler's library writes to."""
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


class _Traffic(TorchDispatchMode):
    """Sums the bytes of kernels' inputs and outputs; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(  # noqa: ANN204 - as in torch
        self,
        func: Any,  # noqa: ANN401 - as in torch
        types: Any,  # noqa: ANN401 - as in torch
        args: Any = (),  # noqa: ANN401 - as in torch
        kwargs: Any = None,  # noqa: ANN401 - as in torch
    ):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return out
