"""Throughput and memory of teacher and student by batch size, and gains by memory format."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

import pandas as pd
import torch
from torch import nn

from ..core.device import Compute, out_of_memory
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..models.student import Student
from ..models.teacher import Teacher
from ..nn.compiling import compiled
from .profiling import Candidate, interleaved, timed
from .speed_ratios import AGAIN, FIRST, STEP, STUDENT
from .stage_profile import Stage, cost, prepared, training_loss


def pass_table(
    teacher: Teacher,
    student: Student,
    images: torch.Tensor,
    computes: Sequence[Compute],
    batch_sizes: Sequence[int],
    floors: pd.DataFrame,
    rounds: int = 3,
    training: bool = True,
    compile: bool = False,
) -> pd.DataFrame:
    """Throughput, utilisation of the device and memory of whole passes.

    A training step is forward and backward, without the optimiser. Reading is not included.

    Args:
        images: (n, 3, s, s) in [0,1] on the device; repeated to fill a batch.
        floors: of the device, see ``profiling.floors``.
        compile: also measure compiled passes, where the precision supports it.

    Returns:
        A row per pass, precision, batch size and compilation: what, precision, batch, compiled;
        rate (images per second), share and memory_gb as in ``stage_table``; setup_s (additional
        seconds of the first pass, compilation included) and note (why there are no numbers).
    """
    rates = floors.set_index("precision")["products"]
    ways = (False, True) if compile else (False,)
    asked = [
        (dataclasses.replace(compute, compile=way), batch)
        for compute, way, batch in itertools.product(computes, ways, sorted(batch_sizes))
        if compute.trains or not way
    ]
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    rows = []
    for compute, batch in progress_bar(asked, "passes"):
        if compute.compile:
            torch.compiler.reset()  # torch limits recompilations per function
        inputs = images[torch.arange(batch) % len(images)]
        with contextlib.closing(_passes(teacher, student, inputs, compute, training)) as passes:
            for stage in passes:
                row = [stage.name, compute.precision, batch, compute.compile]
                try:
                    first = timed(prepared(stage), compute.device)
                    known = _operation_counts(counts, stage.name, batch, compute.compile)
                    rate = rates[compute.precision]
                    measured = cost(stage, rounds, compute.device, batch, rate, known)
                except (LabError, RuntimeError) as error:
                    if not isinstance(error, LabError) and not out_of_memory(error):
                        raise
                    rows.append([*row, *[float("nan")] * 4, str(error).splitlines()[0]])
                    continue
                finally:
                    teacher.zero_grad()
                keys = ("seconds", "operations", "bytes")
                seconds, operations, moved = (measured[key] for key in keys)
                counts[stage.name, batch] = int(operations * batch), int(moved * batch)
                more = max(0.0, first - seconds * batch)
                rows.append([*row, 1 / seconds, measured["share"], measured["memory_gb"], more, ""])
    names = ["what", "precision", "batch", "compiled", "rate", "share", "memory_gb", "setup_s"]
    return pd.DataFrame(rows, columns=[*names, "note"])


def _operation_counts(
    counts: dict[tuple[str, int], tuple[int, int]], name: str, batch: int, compiled: bool
) -> tuple[int, int] | None:
    """Known operations and bytes of a pass; ``None``: count them.

    Compiled passes cannot be counted; those of the plain pass are used, of the same batch size or
    scaled from the largest.
    """
    if (name, batch) in counts or not compiled:
        return counts.get((name, batch))
    others = [other for what, other in counts if what == name]
    if not others:
        raise LabError("no plain pass could be measured, so its operations are unknown")
    operations, moved = counts[name, max(others)]
    return operations * batch // max(others), moved * batch // max(others)


def _passes(
    teacher: Teacher, student: Student, images: torch.Tensor, compute: Compute, training: bool
) -> Generator[Stage]:
    with torch.no_grad(), compute.autocast():
        # In small batches, so that only the pass itself can run out of memory.
        latents = torch.cat([teacher.encode(few) for few in images.split(8)])
    with teacher.evaluation(compute):
        yield Stage(FIRST, lambda _: teacher(images).score)
        yield Stage(AGAIN, lambda _: teacher(images, latents).score)
    if training and compute.trains:

        def step(_: object) -> None:
            training_loss(teacher, compute, images, latents).backward()

        with compiled(teacher, compute.compile):
            yield Stage(STEP, step, lambda: teacher.train().zero_grad())
    with student.evaluation(compute):
        yield Stage(STUDENT, lambda _: student(images).score)


def layout_gains(
    teacher: Teacher,
    student: Student,
    images: torch.Tensor,
    computes: Sequence[Compute],
    rounds: int = 3,
) -> pd.DataFrame:
    """Seconds of VAE, U-Net and student with contiguous and channels-last memory format.

    Args:
        images: (b, 3, s, s), one batch.

    Returns:
        A row per network and precision: network, precision, first and last (seconds per image with
        channels first and last), gain (their ratio).
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
    for compute in (c for c in computes if c.trains):  # int8 has its own layout
        for name, (network, run) in networks.items():
            seconds = (s / len(images) for s in _layouts(network, run, compute, rounds))
            rows.append([name, compute.precision, *seconds])
    table = pd.DataFrame(rows, columns=["network", "precision", "first", "last"])
    return table.assign(gain=table["first"] / table["last"])


def _layouts(
    network: nn.Module, run: Callable[[], object], compute: Compute, rounds: int
) -> tuple[float, float]:
    def candidate(layout: torch.memory_format) -> Candidate:
        @contextlib.contextmanager
        def around() -> Iterator[None]:
            network.to(memory_format=layout)  # type: ignore[call-overload] # untyped in torch
            with torch.no_grad(), compute.autocast():
                run()  # warm-up
                yield

        return Candidate(run, around)

    candidates = {
        "first": candidate(torch.contiguous_format),
        "last": candidate(torch.channels_last),
    }
    best = interleaved(candidates, rounds, compute.device)
    return best["first"], best["last"]
