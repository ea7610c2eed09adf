"""Order of images: a function of seed, epoch and position, so that a resumed run continues it."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..core import distributed


class Share(list):
    """The batches of one process in a step.

    Args:
        total: images of the step over all processes; ``None``: this is the only process.
        counts: False where no batch is left for this process: it computes another's, with loss
            weight 0.
    """

    def __init__(self, batches: Iterable, total: int | None = None, counts: bool = True) -> None:
        super().__init__(batches)
        self.total = sum(len(batch[0]) for batch in self) if total is None else total
        self.counts = counts


class StepBatches:
    """Optimiser steps of a dataset, each a list of one or more batches.

    Processes that train together take a step's batches in turn, so that two of them do what one
    does with twice the accumulation.

    Args:
        dataset: items that torch collates.
        batch_size: photographs a batch. accumulation: batches a step and process. workers: reading
            processes. seed: of the order, another one every epoch. The last step of an epoch may be
            smaller.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, accumulation: int, seed: int, workers: int
    ) -> None:
        self.dataset: Any = dataset
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.seed = seed
        self.workers = workers

    @property
    def step_size(self) -> int:
        """Photographs a step, of all processes."""
        return self.batch_size * self.accumulation * distributed.count()

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-len(self.dataset) // self.step_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Share]:
        """This process's share of the steps of an epoch, from the ``start``-th on."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        order = torch.randperm(len(self.dataset), generator=generator)
        shares = [self._share(step) for step in order.split(self.step_size)[start:]]
        loader = DataLoader(
            self.dataset,
            batch_sampler=[batch for share in shares for batch in share],
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )
        batches = iter(loader)
        for share in shares:
            yield Share([next(batches) for _ in share], share.total, share.counts)

    def _share(self, step: torch.Tensor) -> Share:
        """Of a step's positions, batches of positions."""
        batches = [batch.tolist() for batch in step.split(self.batch_size)]
        own = batches[distributed.rank() :: distributed.count()]
        return Share(own or batches[:1], len(step), counts=bool(own))
