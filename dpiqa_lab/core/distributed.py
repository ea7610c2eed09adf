"""Several processes that train as one, as ``accelerate launch`` starts them."""

import contextlib
import os
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from .errors import LabError


def init(device: torch.device) -> None:
    """Meet the processes that were started together with this one; all do so before any work."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from accelerate import PartialState

        PartialState(cpu=device.type == "cpu")


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which this one is, from 0 on."""
    return dist.get_rank() if count() > 1 else 0


def is_main() -> bool:
    """Whether this is the one that writes and speaks."""
    return rank() == 0


def wait() -> None:
    """Until all have come here."""
    if count() > 1:
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """A block that the main process ends before the others begin it."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def from_main(call: Callable[[], object]) -> object:
    """What ``call`` gives in the main process, in all; its LabError is raised in all too."""
    if count() == 1:
        return call()
    told: list = [None]
    if is_main():
        try:
            told = [(call(), None)]
        except LabError as error:
            told = [(None, str(error))]
    dist.broadcast_object_list(told)
    value, problem = told[0]
    if problem is not None:
        raise LabError(problem)
    return value


def shard_indices(total: int) -> range:
    """Positions that this process does of ``total``: every one is somebody's, and nobody else's."""
    return range(rank(), total, count())


def all_gather_rows(rows: torch.Tensor, total: int) -> torch.Tensor:
    """All ``total`` rows in their order, in every process, from each one's at ``shard_indices``."""
    if count() == 1:
        return rows
    parts: list = [None] * count()
    dist.all_gather_object(parts, rows)
    whole = rows.new_empty((total, *rows.shape[1:]))
    for i, part in enumerate(parts):
        whole[i :: count()] = part
    return whole


@contextlib.contextmanager
def mute_workers() -> Iterator[None]:
    """What the other processes print within the block is not seen."""
    with contextlib.ExitStack() as stack:
        if not is_main():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield
