"""Cost of each stage of teacher and student, compared with the device's limits."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from PIL import Image

from ..core.device import Compute, out_of_memory
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.images import read_image, to_tensor
from ..diffusion.taps import FeatureTaps
from ..models.image_scorer import ModelOutput
from ..models.student import Student
from ..models.teacher import Teacher
from .profiling import counted, profiled, timed

# On the CPU, whatever device and precision.
READING = ("decode image", "resize")


class Stage(NamedTuple):
    """A stage to be timed; ``prepare`` makes its input before each call, untimed."""

    name: str
    run: Callable[[Any], object]
    prepare: Callable[[], object] = lambda: None


def stage_table(
    teacher: Teacher,
    student: Student,
    photographs: Sequence[Path],
    computes: Sequence[Compute],
    batch_sizes: Sequence[int],
    floors: pd.DataFrame,
    rounds: int = 3,
    training: bool = True,
) -> pd.DataFrame:
    """Time, operations, bytes and memory of each stage, by precision and batch size.

    Args:
        photographs: files, repeated to fill a batch.
        floors: of the device, see ``profiling.floors``.

    Returns:
        A row per stage, precision and batch that fits in memory: stage, precision, batch; seconds,
        operations and bytes (per image); floor, seconds of the operations at the rate of a large
        matrix product; share, floor / seconds; memory_gb, peak beside weights and inputs; and the
        time of its kernels, as fractions: products (matrix products, convolutions, attention),
        copies (and conversions), elementwise (norms, activations, sums) and outside (Python,
        launches, waiting).
    """
    rates = floors.set_index("precision")["products"]
    asked = [(compute, batch) for compute in computes for batch in batch_sizes]
    rows = []
    for compute, batch in progress_bar(asked, "stages"):
        chosen = [photographs[i % len(photographs)] for i in range(batch)]
        reading = compute is computes[0]
        place = {"precision": compute.precision, "batch": batch}
        try:
            # Closed after an error too, to end the evaluation.
            with contextlib.closing(_stages(teacher, student, chosen, compute, training)) as stages:
                for stage in stages:
                    if reading or stage.name not in READING:
                        measured = cost(
                            stage, rounds, compute.device, batch, rates[compute.precision]
                        )
                        rows.append({"stage": stage.name, **place, **measured})
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            rows = [row for row in rows if place.items() - row.items()]
            print(f"stages: out of memory with batches of {batch} in {compute.precision}")
        finally:
            teacher.zero_grad()
    return pd.DataFrame(rows)


def _stages(
    teacher: Teacher,
    student: Student,
    photographs: Sequence[Path],
    compute: Compute,
    training: bool,
) -> Generator[Stage]:
    """The stages in order."""
    size = teacher.image_size
    pictures = [Image.fromarray(read_image(path)) for path in photographs]
    yield Stage(READING[0], lambda _: [read_image(path) for path in photographs])
    yield Stage(READING[1], lambda _: [to_tensor(read_image(p, size)) for p in pictures])
    images = torch.stack([to_tensor(read_image(p, size)) for p in pictures]).to(compute.device)
    with teacher.evaluation(compute):
        yield Stage("VAE", lambda _: teacher.encode(images))
        latents = teacher.encode(images)
        adapter = teacher.image_adapter
        if adapter is not None:
            yield Stage("image adapter", lambda _: adapter(images))
        residuals = adapter(images) if adapter is not None else None
        backbone, prompts = teacher.backbone, teacher.adapted_prompts()

        def unet(_: object) -> list[torch.Tensor]:
            with FeatureTaps(backbone.unet, teacher.taps, stop=True, copy=False) as taps:
                backbone.denoise(latents, teacher.timestep, prompts, residuals)
            return [taps[name] for name in teacher.taps]

        yield Stage("U-Net", unet)
        levels = teacher.levels(images, latents)
        yield Stage("decoder", lambda _: teacher.quality_feature_decoder(levels))
    if training and compute.trains:

        def loss() -> torch.Tensor:
            teacher.train().zero_grad()
            return training_loss(teacher, compute, images, latents)

        yield Stage("backward", lambda loss: loss.backward(), loss)
    with student.evaluation(compute):
        yield Stage("student", lambda _: student(images))


def training_loss(
    forward: Callable[..., ModelOutput], compute: Compute, *inputs: torch.Tensor
) -> torch.Tensor:
    """Loss of a timed training step."""
    with compute.autocast():
        return forward(*inputs).score.square().mean()


def cost(
    stage: Stage,
    rounds: int,
    device: torch.device,
    batch: int,
    rate: float,
    known: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Columns of ``stage_table``.

    Args:
        rate: operations per second of the device.
        known: the batch's operations and bytes, if known.
    """
    operations, moved = known or counted(prepared(stage))
    profile = profiled(prepared(stage), device)
    seconds = min(timed(prepared(stage), device) for _ in range(rounds))
    # Profiled time may exceed the time measured without the profiler.
    inside = sum(profile.seconds.values())
    shares = {kind: spent / max(seconds, inside) for kind, spent in profile.seconds.items()}
    return {
        "seconds": seconds / batch,
        "operations": operations // batch,
        "bytes": moved // batch,
        "floor": operations / rate / batch,
        "share": operations / rate / seconds,
        "memory_gb": profile.peak / 1e9,
        **shares,
        "outside": max(0.0, 1 - sum(shares.values())),
    }


def prepared(stage: Stage) -> Callable[[], object]:
    """The stage with its input prepared, to be called once."""
    made = stage.prepare()
    return lambda: stage.run(made)


def select_stages(stages: pd.DataFrame, precision: str, batch: int) -> pd.DataFrame:
    """Rows of one precision and batch size, and of reading.

    Raises:
        LabError: that pair was not measured.
    """
    reading = stages["stage"].isin(READING)
    rows = stages[(stages["batch"] == batch) & (reading | (stages["precision"] == precision))]
    if not (rows["precision"] == precision).any():
        known = stages[["precision", "batch"]].drop_duplicates().itertuples(index=False)
        pairs = ", ".join(f"{p} at {b}" for p, b in known)
        raise LabError(f"{precision} at batch {batch} was not measured: {pairs}.")
    return rows.reset_index(drop=True)
