"""A model that costs nothing, for what is around models."""

import os
import signal
from pathlib import Path

import torch

from dpiqa_lab.models.image_scorer import ImageScorer, ModelOutput


class StubScorer(ImageScorer):
    """Scores a photograph by its mean; notes in ``<log>/<process>`` what it was shown.

    Args:
        log: a folder, or None. reads: whether photographs are files. deadly: the name of one that
            kills the process which reads it, the first time.
    """

    def __init__(self, log: Path | None = None, reads: bool = True, deadly: str | None = None):
        super().__init__()
        self.image_size = 8
        self.log, self.reads, self.deadly = log, reads, deadly

    def settings(self):
        return {"image_size": self.image_size}  # how it is watched changes no score

    def prepare(self, photograph):
        if self.log is not None:
            with (self.log / str(os.getpid())).open("a") as file:
                file.write(f"{photograph.name} {torch.get_num_threads()}\n")
        if photograph.name == self.deadly and not (self.log / "killed").exists():
            (self.log / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.reads:
            return super().prepare(photograph)
        return torch.full((3, 1, 1), int(photograph.stem) % 1000 / 1000)

    def forward(self, images):
        return ModelOutput(images.mean((1, 2, 3)), images)
