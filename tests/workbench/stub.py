"""A model that costs nothing, for what is around models."""

import os
import time
from pathlib import Path

import torch

from dpiqa_lab.models.scoring import ModelOutput, Scorer


class StubScorer(torch.nn.Module, Scorer):
    """Scores a photograph by its mean; notes in ``<log>/<process>`` what it was shown.

    Args:
        log: a folder, or None. pause: seconds a batch. reads: whether photographs are files.
    """

    def __init__(self, log: Path | None = None, pause: float = 0.0, reads: bool = True):
        super().__init__()
        self.image_size = 8
        self.log, self.pause, self.reads = log, pause, reads

    def prepare(self, photograph):
        if self.log is not None:
            with open(self.log / str(os.getpid()), "a") as file:
                file.write(f"{Path(photograph).name} {torch.get_num_threads()}\n")
        if self.reads:
            return super().prepare(photograph)
        return torch.full((3, 1, 1), int(Path(photograph).stem) % 1000 / 1000)

    def forward(self, images):
        if self.pause:
            time.sleep(self.pause)
        return ModelOutput(images.mean((1, 2, 3)), images)
