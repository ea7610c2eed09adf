"""What a training asks of this machine: sizes computed from shapes, time from a short trial."""

import dataclasses
import shutil
import time

import pandas as pd
import torch

from ..core.device import choose_compute, keep_freed_memory, make_deterministic
from ..core.paths import cache_dir
from ..datasets.dataset import QualityDataset, load_dataset
from ..datasets.specs import get_spec
from ..datasets.validation_checks import Finding, as_frame
from ..diffusion.backbone import Backbone
from ..diffusion.loading import load_backbone
from ..diffusion.presets import find_preset
from ..diffusion.tap_table import describe_taps
from ..models.teacher import Teacher
from ..probing.features import POOLINGS
from ..training.batches import StepBatches
from ..training.scored_run import schedule_of
from ..training.teacher_config import TrainConfig
from ..training.teacher_run import TeacherTask, build_teacher

FLOAT = 4  # bytes
# "grid" is four means a channel, the other poolings one number.
POOLED = len(POOLINGS) + 3
TRIAL_STEPS = 3
TRIAL_VALIDATED = 8


def training_needs(
    config: TrainConfig, photographs: int | None = None, trial: bool = False
) -> pd.DataFrame:
    """Disk, memory and, by a ``trial``, time that a training needs.

    Args:
        config: a resolved config. photographs: how many; ``None`` is the whole release's number.
        trial: train a few steps on the dataset's own photographs, keep nothing, and reckon.

    Returns:
        A row a need: severity, what, names, advice, as ``check_dataset`` gives them.

    Raises:
        LabError: a size that does not fit the backbone; with ``trial``, a dataset that cannot be
            loaded.
    """
    found = sizes(config, photographs or get_spec(config.dataset).count or 0)
    return as_frame(found + (durations(config) if trial else []))


def sizes(config: TrainConfig, photographs: int) -> list[Finding]:
    """Disk and memory, computed from the shapes of the backbone's tensors."""
    backbone = _shapes_of(config)
    side = config.image_size // backbone.downscale
    latents = photographs * FLOAT * backbone.unet.config.in_channels * side**2
    taps = describe_taps(backbone, config.image_size).set_index("tap")["channels"]
    channels = taps[[name for name in taps.index if name.startswith(("mid", "up"))]].sum()
    features = photographs * FLOAT * POOLED * channels
    free = _free()
    where = (
        f"{photographs:,} photographs at {config.image_size} pixels, {config.backbone}, computed"
    )
    found = [
        Finding("info", f"latents: {_size(latents)} of disk and of memory ({where})"),
        Finding("info", f"pooled features: {_size(features)} of disk a timestep ({where})"),
        Finding("info", f"weights and Adam's state: {_size(_training_bytes(config, backbone))} of "
                "memory in float32, activations not counted (computed)"),
    ]  # fmt: skip
    if latents > free:
        what = f"the cache needs {_size(latents)} for latents; its disk has {_size(free)} free"
        found.append(Finding("error", what, (), "make room, or set DPIQA_HOME to another disk"))
    return found


def durations(config: TrainConfig) -> list[Finding]:
    """How long the training takes on this device, reckoned from a few steps of it.

    Raises:
        LabError: the dataset cannot be loaded.
    """
    compute = choose_compute(config.device, config.precision)
    make_deterministic()  # as a training does: both change how long a step takes
    keep_freed_memory()
    dataset = load_dataset(config.dataset, **config.dataset_options())
    counts = dataset.manifest.table["split"].value_counts()
    steps = StepBatches(
        range(counts["train"]), config.batch_size, config.accumulation_steps, config.seed, 0
    )
    schedule = schedule_of(config, len(steps))
    teacher = build_teacher(config.identity())
    if config.gradient_checkpointing:
        teacher.backbone.unet.enable_gradient_checkpointing()
    few = _few(dataset, config)
    task = TeacherTask(teacher, few, config, compute)
    teacher.to(compute.device)
    optimizer = torch.optim.Adam(task.parameter_groups(), lr=0.0)

    def step(epoch: int) -> None:
        optimizer.zero_grad()
        for batches in task.batches(epoch, 0):
            for batch in batches:
                with compute.autocast():
                    loss, _ = task.loss(teacher.train(), batch)
                loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    step(0)
    step_seconds = _timed(lambda: [step(epoch) for epoch in range(TRIAL_STEPS)]) / TRIAL_STEPS
    part = config.select_on
    task.predict(teacher, part)
    predict_seconds = _timed(lambda: task.predict(teacher, part)) / len(task.parts[part])
    image = torch.rand(1, 3, config.image_size, config.image_size, device=compute.device)
    teacher.encode(image).sum().item()
    encode_seconds = _timed(lambda: teacher.encode(image).sum().item())

    validations = sum(schedule.due(i + 1) for i in range(schedule.total_steps))
    total = (
        len(dataset) * encode_seconds
        + schedule.total_steps * step_seconds
        + validations * int(counts[part]) * predict_seconds
    )
    what = (
        f"training: about {_clock(total)} on {compute} ({schedule.total_steps:,} steps of "
        f"{config.batch_size * config.accumulation_steps} photographs at {step_seconds:.2f} s, "
        f"{validations} validations at {_clock(counts[part] * predict_seconds)}, latents once "
        f"{_clock(len(dataset) * encode_seconds)}); reckoned from {TRIAL_STEPS} steps"
    )
    found = [Finding("info", what)]
    if compute.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(compute.device)
        found.append(Finding("info", f"peak memory in the trial: {_size(peak)} (measured)"))
    return found


def _shapes_of(config: TrainConfig) -> Backbone:
    """The backbone; without its numbers where the preset says all about its shapes."""
    known = find_preset(config.backbone).architecture
    with torch.device("meta" if known else "cpu"):
        return load_backbone(config.backbone, config.random_weights or bool(known), config.revision)


def _training_bytes(config: TrainConfig, backbone: Backbone) -> int:
    """Weights of everything; gradients and Adam's two moments of what is trained."""
    with torch.device("meta"):
        teacher = Teacher(
            backbone,
            prompts=torch.empty(1, 1, backbone.unet.config.cross_attention_dim),
            decoder_width=config.decoder_width,
            decoder_head=config.decoder_head,
            text_adapter=config.text_adapter,
            image_adapter=config.image_adapter,
            image_size=config.image_size,
            up_blocks=config.up_blocks,
        )
        teacher.set_trainable(config.trainable, config.lora_rank)
    trained = sum(p.numel() for p in teacher.parameters() if p.requires_grad)
    return FLOAT * (sum(p.numel() for p in teacher.parameters()) + 3 * trained)


def _few(dataset: QualityDataset, config: TrainConfig) -> QualityDataset:
    """One step's train photographs and some of each other part."""
    table = dataset.manifest.table
    n = {"train": config.batch_size * config.accumulation_steps}
    rows = [table[table.split == p].head(n.get(p, TRIAL_VALIDATED)) for p in table.split.unique()]
    manifest = dataclasses.replace(dataset.manifest, table=pd.concat(rows, ignore_index=True))
    return QualityDataset(manifest, "all", dataset.image_size)


def _free() -> int:
    folder = cache_dir()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
