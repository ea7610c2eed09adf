"""The order of photographs: a function of seed, epoch and position, so a resume continues it."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset


class StepBatches:
    """Optimiser steps of a dataset, each a list of one or more batches.

    Args:
        dataset: items that torch collates.
        batch_size: photographs a batch. accumulation: batches a step. workers: reading processes.
        seed: of the order, another one every epoch. The last step of an epoch may be smaller.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, accumulation: int, seed: int, workers: int
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.seed = seed
        self.workers = workers

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-len(self.dataset) // (self.batch_size * self.accumulation))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list]:
        """The steps of an epoch from the ``start``-th on."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        order = torch.randperm(len(self.dataset), generator=generator)
        steps = order.split(self.batch_size * self.accumulation)[start:]
        grouped = [[b.tolist() for b in step.split(self.batch_size)] for step in steps]
        loader = DataLoader(
            self.dataset,
            batch_sampler=[batch for step in grouped for batch in step],
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )
        batches = iter(loader)
        for step in grouped:
            yield [next(batches) for _ in step]
