"""Training in several processes, as started by ``accelerate launch``."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from .errors import LabError

T = TypeVar("T")


def init(device: torch.device) -> None:
    """Connect the processes that were started together; call it in all, before any work."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from accelerate import PartialState

        PartialState(cpu=device.type == "cpu")


def count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def wait() -> None:
    """Wait until all processes have called this."""
    if count() > 1:
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Context that the main process leaves before the others enter."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def from_main(call: Callable[[], T]) -> T:
    """Result of ``call`` in the main process, in all processes; a LabError is raised in all."""
    if count() == 1:
        return call()
    result: list = [None]
    if is_main():
        try:
            result = [(call(), None)]
        except LabError as error:
            result = [(None, str(error))]
    dist.broadcast_object_list(result)
    value, problem = result[0]
    if problem is not None:
        raise LabError(problem)
    return value


def shard_indices(total: int) -> range:
    """Indices assigned to this process; those of all processes partition ``range(total)``."""
    return range(rank(), total, count())


def all_gather_rows(rows: torch.Tensor, total: int) -> torch.Tensor:
    """All ``total`` rows in order, in every process, from each one's rows of ``shard_indices``."""
    if count() == 1:
        return rows
    shards: list = [None] * count()
    dist.all_gather_object(shards, rows)
    whole = rows.new_empty((total, *rows.shape[1:]))
    for i, shard in enumerate(shards):
        whole[i :: count()] = shard
    return whole


@contextlib.contextmanager
def mute_workers() -> Iterator[None]:
    """Context in which all processes but the main one do not print."""
    with contextlib.ExitStack() as stack:
        if not is_main():
            null = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(null))
        yield
