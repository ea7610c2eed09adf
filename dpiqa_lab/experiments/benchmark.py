"""Benchmark run: device limits, cost of each stage, and speed relative to the plain reference."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..core.config import resolves
from ..core.device import choose_compute, keep_freed_memory
from ..core.experiment import experiment
from ..core.identity import Inputs
from ..core.runs import Run
from ..datasets.image_set import ImageSet, unlabelled_photographs
from ..diffusion.backbone import describe_record
from ..diffusion.loading import load_backbone
from ..diffusion.model_inputs import backbone_inputs
from ..diffusion.presets import find_preset
from ..models.student import Student
from ..models.teacher import Teacher
from .benchmark_config import BenchmarkConfig
from .profiling import floors
from .speed_ratios import AGAIN, in_memory, speed_ratios
from .stage_profile import stage_table
from .throughput import layout_gains, pass_table

_SIZE = (1024, 768)  # of KonIQ-10k's images, pixels


@resolves
def run_benchmark(config: BenchmarkConfig) -> Run:
    """Measure, or reuse the run of that name.

    Tables of the run: ``floors.csv`` (see ``profiling.floors``), ``stages.csv`` (see
    ``stage_table``), ``ratios.csv`` (see ``speed_ratios``), ``passes.csv`` (see
    ``pass_table``) and ``layouts.csv`` (see ``layout_gains``).

    Raises:
        LabError: bad input, before any long work.
    """
    computes = [choose_compute(config.device, precision) for precision in config.precisions]
    keep_freed_memory()
    torch.set_flush_denormal(True)
    device = computes[0].device

    def work(run: Run) -> dict:
        teacher, student = _networks(config)
        for network in (teacher, student):
            network.to(device)
        with tempfile.TemporaryDirectory() as folder:
            photographs = generated_photographs(Path(folder), config)
            rates = floors(device, config.precisions)
            run.write_table("floors", rates)
            stages = stage_table(
                teacher, student, list(photographs.table["path"]), computes, config.batch_sizes,
                rates, config.rounds, config.training,
            )  # fmt: skip
            run.write_table("stages", stages)
            ratios = speed_ratios(
                teacher, student, photographs, computes, config.timesteps, config.rounds,
                config.training,
            )  # fmt: skip
            run.write_table("ratios", ratios)
            images = in_memory(photographs, device)
            passes = pass_table(
                teacher, student, images, computes, config.batch_sizes, rates, config.rounds,
                config.training, config.compile,
            )  # fmt: skip
            run.write_table("passes", passes)
            gains = layout_gains(teacher, student, images[:1], computes, config.rounds)
            run.write_table("layouts", gains)
        return {
            "backbone": describe_record(teacher.backbone.record),
            "threads": torch.get_num_threads(),
            "prompts": teacher.prompt_embeddings.shape[1],
            "parameters": teacher.parameter_counts(),
            "auto_precision": str(choose_compute(config.device)),
            "notes": _notes(ratios, config, device),
        }

    return experiment(config, benchmark_inputs(config), work)


def benchmark_inputs(config: BenchmarkConfig) -> Inputs:
    """Inputs of a benchmark."""
    models = backbone_inputs(config.backbone, config.prompts, config.random_weights)
    return Inputs(models=models)


def generated_photographs(folder: Path, config: BenchmarkConfig) -> ImageSet:
    """Generated JPEG files of KonIQ-10k's size, smooth with noise."""
    rng = np.random.default_rng(0)
    for i in range(config.photographs):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(_SIZE, Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.normal(0, 12, smooth.shape)
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{i:04d}.jpg", quality=90)
    return ImageSet(unlabelled_photographs(str(folder), "error", set()), config.image_size)


def _networks(config: BenchmarkConfig) -> tuple[Teacher, Student]:
    preset = find_preset(config.backbone)
    backbone = load_backbone(config.backbone, config.random_weights)
    teacher = Teacher(
        backbone,
        config.prompts,
        decoder_width=preset.decoder_width,
        decoder_head=preset.decoder_head,
        image_size=config.image_size,
    )
    return teacher, Student(config.student, config.image_size)


def _notes(ratios: pd.DataFrame, config: BenchmarkConfig, device: torch.device) -> list[str]:
    notes = ["all candidates alternate in one process; the best round counts"]
    if device.type == "cpu" and torch.get_num_threads() == 1:
        notes.append("one thread: seconds are the processor's, not the wall clock's")
    if config.training:
        notes.append("training steps without the optimiser, whose cost is the same for both")
    seconds = ratios[ratios["what"] == AGAIN].groupby("lab")["lab_s"].min()
    slower = seconds.index[seconds > seconds["float32"]]
    return notes + [f"{name} is slower than float32 here" for name in slower]
