"""What the order of numbers in memory gains, which does not change the method: channels last."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pandas as pd
import torch
from torch import nn

from ..core.device import Compute
from ..models.student import Student
from ..models.teacher import Teacher
from .profiling import Candidate, interleaved


def layout_gains(
    teacher: Teacher,
    student: Student,
    images: torch.Tensor,
    computes: Sequence[Compute],
    rounds: int = 3,
) -> pd.DataFrame:
    """Seconds a pass of VAE, U-Net and student with channels in their usual place and last.

    Args:
        images: (b, 3, s, s), a pass.

    Returns:
        A row a network and precision: network, precision, first and last (seconds a photograph) and
        gain (their ratio).
    """
    with torch.no_grad():
        latents = teacher.encode(images)
        prompts = teacher.adapted_prompts()
    vae, unet = teacher.backbone.vae, teacher.backbone.unet
    networks: dict[str, tuple[nn.Module, Callable]] = {
        "VAE": (vae, lambda: teacher.encode(images)),
        "U-Net": (unet, lambda: unet(latents, 1, encoder_hidden_states=prompts)),
        "student": (student.eval(), lambda: student(images)),
    }
    rows = []
    for compute in (c for c in computes if c.trains):  # int8 has a layout of its own
        for name, (network, run) in networks.items():
            seconds = (s / len(images) for s in _layouts(network, run, compute, rounds))
            rows.append([name, compute.precision, *seconds])
    table = pd.DataFrame(rows, columns=["network", "precision", "first", "last"])
    return table.assign(gain=table["first"] / table["last"])


def _layouts(network, run, compute: Compute, rounds: int) -> tuple[float, float]:
    def way(layout: torch.memory_format) -> Candidate:
        @contextlib.contextmanager
        def around() -> Iterator[None]:
            network.to(memory_format=layout)
            with torch.no_grad(), compute.autocast():
                run()  # which also chooses kernels
                yield

        return Candidate(run, around)

    ways = {"first": way(torch.contiguous_format), "last": way(torch.channels_last)}
    best = interleaved(ways, rounds, compute.device)
    return best["first"], best["last"]
