"""Whole passes of teacher and student at several batch sizes: rate, share of the floor, memory."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import pandas as pd
import torch

from ..core.device import Compute, out_of_memory
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..models.student import Student
from ..models.teacher import Teacher
from ..nn.compiling import compiled
from .profiling import timed
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
    """Time, share of the device's floor and memory of whole passes.

    A training step is a pass and its backward pass, without the optimiser. Reading photographs is
    in none.

    Args:
        images: (n, 3, s, s) in [0,1] on the device; taken again where a batch needs more.
        floors: of the device, see ``measuring.floors``.
        compile: measure each compiled too, where its precision can be.

    Returns:
        A row a pass, precision, batch size and way: what, precision, batch, compiled; rate
        (photographs a second), share and memory_gb as in ``stages.stage_table``; setup_s (what the
        first such pass took more, all compilation included) and note (why there are no numbers).
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
            torch.compiler.reset()  # torch gives a block up after so many shapes, all in all
        shown = images[torch.arange(batch) % len(images)]
        with contextlib.closing(_passes(teacher, student, shown, compute, training)) as passes:
            for stage in passes:
                row = [stage.name, compute.precision, batch, compute.compile]
                try:
                    first = timed(prepared(stage), compute.device)
                    known = _known(counts, stage.name, batch, compute.compile)
                    rate = rates[compute.precision]
                    measured = cost(stage, rounds, compute.device, batch, rate, known)
                except (LabError, RuntimeError) as error:
                    if not isinstance(error, LabError) and not out_of_memory(error):
                        raise
                    rows.append([*row, *[float("nan")] * 4, str(error).splitlines()[0]])
                    continue
                finally:
                    teacher.zero_grad()
                seconds, *each = (measured[name] for name in ("seconds", "operations", "bytes"))
                counts[stage.name, batch] = tuple(count * batch for count in each)
                more = max(0.0, first - seconds * batch)
                rows.append([*row, 1 / seconds, measured["share"], measured["memory_gb"], more, ""])
    names = ["what", "precision", "batch", "compiled", "rate", "share", "memory_gb", "setup_s"]
    return pd.DataFrame(rows, columns=[*names, "note"])


def _known(
    counts: dict[tuple[str, int], tuple[int, int]], name: str, batch: int, compiled: bool
) -> tuple[int, int] | None:
    """Operations and bytes of a pass, where they are known; ``None``: they can be counted.

    Compiled they cannot: what counts would see nothing, and torch would compile no more. But it is
    the same work as the plain pass of this batch; or nearly, by the photograph, as that of another.
    """
    if (name, batch) in counts or not compiled:
        return counts.get((name, batch))
    others = [other for what, other in counts if what == name]
    if not others:
        raise LabError("no plain pass of it could be measured, whose operations are to be known")
    operations, moved = counts[name, max(others)]
    return operations * batch // max(others), moved * batch // max(others)


def _passes(
    teacher: Teacher, student: Student, images: torch.Tensor, compute: Compute, training: bool
) -> Iterator[Stage]:
    with torch.no_grad(), compute.autocast():
        # By few, and plain: what keeps a pass from being measured leaves the others.
        latents = torch.cat([teacher.encode(few) for few in images.split(8)])
    with teacher.evaluation(compute):
        yield Stage(FIRST, lambda _: teacher(images).score)
        yield Stage(AGAIN, lambda _: teacher(images, latents).score)
    if training and compute.trains:

        def step(_) -> None:
            training_loss(teacher, compute, images, latents).backward()

        with compiled(teacher, compute.compile):
            yield Stage(STEP, step, lambda: teacher.train().zero_grad())
    with student.evaluation(compute):
        yield Stage(STUDENT, lambda _: student(images).score)
