"""Speed of the lab relative to the plain reference, measured alternately."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch

from ..core.device import Compute
from ..datasets.image_set import ImageSet
from ..datasets.images import unit_range
from ..datasets.pixels import Pixels
from ..models.image_scorer import ImageScorer
from ..models.student import Student
from ..models.teacher import Teacher
from ..probing.features import extract_features
from .plain_reference import PlainReference
from .profiling import Candidate, interleaved
from .stage_profile import training_loss

FIRST, AGAIN, STEP, SWEEP, STUDENT = (
    "score, first pass", "score again, latents known", "training step, latents known",
    "sweep over timesteps and layers", "student's score",
)  # fmt: skip


def speed_ratios(
    teacher: Teacher,
    student: Student,
    photographs: ImageSet,
    computes: Sequence[Compute],
    timesteps: int = 10,
    rounds: int = 3,
    training: bool = True,
) -> pd.DataFrame:
    """Seconds per image of the lab and of the plain reference, and their ratios.

    Scoring excludes work done once per evaluation, as conversion of weights to int8. A training
    step is forward and backward over all images, without the optimiser. The sweep pools outputs
    of the four up blocks at each timestep; for the plain one, one timestep is timed and multiplied;
    the lab's hash of the weights, made once per process, is excluded. A student is compared with
    the plain teacher's score.

    Args:
        photographs: on disk for the sweep, which reads them; otherwise in memory.
        computes: precisions of one device, float32 among them.

    Returns:
        A row per comparison: what, plain (precision: float32, or the lab's), lab (precision),
        plain_s and lab_s (seconds per image), ratio.
    """
    device = computes[0].device
    images = in_memory(photographs, device)
    lab = _Lab(teacher, student, images, photographs, timesteps)
    best = interleaved(lab.scoring(computes) | lab.sweeps(computes), rounds, device)
    for compute in computes:
        best[f"plain {SWEEP} {compute.precision}"] *= len(lab.timesteps)
    if training:
        # Last, as they need the most memory.
        best |= interleaved(lab.steps(computes), rounds, device)
        teacher.zero_grad()
    rows = []
    for what in (FIRST, AGAIN, STEP, SWEEP, STUDENT):
        reference = {STEP: STEP, SWEEP: SWEEP}.get(what, FIRST)
        for compute in computes:
            for plain in dict.fromkeys(("float32", compute.precision)):
                names = f"plain {reference} {plain}", f"{what} {compute.precision}"
                if all(name in best for name in names):
                    seconds = [best[name] / len(images) for name in names]
                    rows.append([what, plain, compute.precision, *seconds])
    table = pd.DataFrame(rows, columns=["what", "plain", "lab", "plain_s", "lab_s"])
    return table.assign(ratio=table["plain_s"] / table["lab_s"])


def in_memory(photographs: ImageSet, device: torch.device) -> torch.Tensor:
    """Images (n, 3, s, s) in [0,1] on ``device``."""
    pixels = Pixels(photographs)
    images = torch.stack([pixels[i][0] for i in range(len(pixels))])
    return unit_range(images, device)


class _Lab:
    """The candidates to be timed, on the same images."""

    def __init__(
        self,
        teacher: Teacher,
        student: Student,
        images: torch.Tensor,
        photographs: ImageSet,
        timesteps: int,
    ) -> None:
        self.teacher, self.student = teacher, student
        self.images, self.photographs = images, photographs
        self.timesteps = sorted({int(t) for t in np.linspace(1, 999, timesteps)})
        self.reference = PlainReference(teacher)
        with torch.no_grad():
            self.latents = teacher.encode(images)

    def scoring(self, computes: Sequence[Compute]) -> dict[str, Candidate]:
        ways = {}
        for compute in computes:
            name = compute.precision
            ways[f"plain {FIRST} {name}"] = self._plain(
                compute, lambda: self.reference.score(self.images)
            )
            ways[f"{FIRST} {name}"] = self._evaluated(self.teacher, compute)
            ways[f"{AGAIN} {name}"] = self._evaluated(self.teacher, compute, self.latents)
            ways[f"{STUDENT} {name}"] = self._evaluated(self.student, compute)
        return ways

    def sweeps(self, computes: Sequence[Compute]) -> dict[str, Candidate]:
        ways, taps = {}, self.teacher.taps

        def sweep(compute: Compute) -> None:
            with tempfile.TemporaryDirectory() as folder:
                extract_features(
                    self.teacher.backbone, self.photographs, self.timesteps, taps,
                    cache_dir=folder, compute=compute,
                )  # fmt: skip

        for compute in computes:
            name = f"{SWEEP} {compute.precision}"
            ways[f"plain {name}"] = self._plain(
                compute, lambda: self.reference.features(self.images, self.timesteps[:1], taps)
            )
            ways[name] = Candidate(partial(sweep, compute), self._hashed)
        return ways

    def steps(self, computes: Sequence[Compute]) -> dict[str, Candidate]:
        def step(forward: Callable, compute: Compute) -> None:
            self.teacher.train().zero_grad()
            training_loss(forward, compute, self.images).backward()

        ways = {}
        for compute in (c for c in computes if c.trains):
            ways[f"plain {STEP} {compute.precision}"] = Candidate(
                partial(step, self.reference.forward, compute),
                self.reference.layout,
            )
            ways[f"{STEP} {compute.precision}"] = Candidate(
                partial(step, lambda x: self.teacher(x, self.latents), compute)
            )
        return ways

    @contextlib.contextmanager
    def _hashed(self) -> Iterator[None]:
        """Hashes of the weights are computed, as after a process's first extraction."""
        self.teacher.backbone.unet_hash()
        self.teacher.backbone.vae_hash()
        yield

    def _plain(self, compute: Compute, call: Callable[[], object]) -> Candidate:
        @contextlib.contextmanager
        def around() -> Iterator[None]:
            with self.reference.layout(), compute.autocast():
                if compute.precision != "float32":
                    call()  # converts the weights
                yield

        return Candidate(call, around)

    def _evaluated(self, model: ImageScorer, compute: Compute, *latents: torch.Tensor) -> Candidate:
        """Scores within an evaluation, after a warm-up batch."""

        @contextlib.contextmanager
        def around() -> Iterator[None]:
            with model.evaluation(compute):
                model(self.images[:1], *(known[:1] for known in latents))
                yield

        return Candidate(lambda: model(self.images, *latents).score.float().cpu(), around)
