"""Resources of a training: sizes computed from shapes, time measured in a short trial."""

import dataclasses
import shutil
import time
from collections.abc import Callable

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
    """Disk, memory and, with ``trial``, time that a training needs.

    Args:
        config: a resolved config. photographs: their number; ``None``: that of the release.
        trial: estimate the time from a few steps on the dataset; nothing is saved.

    Returns:
        A row per resource: severity, what, names, advice, as from ``check_dataset``.

    Raises:
        LabError: a size that does not fit the backbone; with ``trial``, a dataset that cannot be
            loaded.
    """
    found = sizes(config, photographs or get_spec(config.dataset).count or 0)
    return as_frame(found + (durations(config) if trial else []))


def sizes(config: TrainConfig, photographs: int) -> list[Finding]:
    """Disk and memory, computed from the shapes of the backbone's tensors."""
    backbone = _shapes_of(config)
    assert config.image_size is not None  # resolved
    side = config.image_size // backbone.downscale
    latents = photographs * FLOAT * backbone.unet.config.in_channels * side**2
    taps = describe_taps(backbone, config.image_size).set_index("tap")["channels"]
    channels = taps[[name for name in taps.index if name.startswith(("mid", "up"))]].sum()
    features = photographs * FLOAT * POOLED * channels
    free = _free()
    where = (
        f"{photographs:,} photographs at {config.image_size} pixels, {config.backbone}, computed"
    )
    findings = [
        Finding("info", f"latents: {_size(latents)} of disk and of memory ({where})"),
        Finding("info", f"pooled features: {_size(features)} of disk a timestep ({where})"),
        Finding("info", f"weights and Adam's state: {_size(_training_bytes(config, backbone))} of "
                "memory in float32, activations not included (computed)"),
    ]  # fmt: skip
    if latents > free:
        what = f"the cache needs {_size(latents)} for latents; its disk has {_size(free)} free"
        advice = "free disk space, or set DPIQA_HOME to another disk"
        findings.append(Finding("error", what, (), advice))
    return findings


def durations(config: TrainConfig) -> list[Finding]:
    """Duration of the training on this device, estimated from a few steps.

    Raises:
        LabError: the dataset cannot be loaded.
    """
    compute = choose_compute(config.device, config.precision)
    make_deterministic()  # as in a training: both change the duration of a step
    keep_freed_memory()
    dataset = load_dataset(config.dataset, **config.dataset_options())
    counts = dataset.manifest.table["split"].value_counts()
    steps = StepBatches(
        range(counts["train"]),  # type: ignore[arg-type]  # only its length is read
        config.batch_size,
        config.accumulation_steps,
        config.seed,
        0,
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
    step_seconds = _timed(lambda: [*map(step, range(TRIAL_STEPS))]) / TRIAL_STEPS
    split = config.select_on
    assert split is not None  # resolved
    task.predict(teacher, split)
    predict_seconds = _timed(lambda: task.predict(teacher, split)) / len(task.parts[split])
    side = config.image_size
    assert side is not None  # resolved
    image = torch.rand(1, 3, side, side, device=compute.device)
    teacher.encode(image).sum().item()
    encode_seconds = _timed(lambda: teacher.encode(image).sum().item())

    validations = sum(schedule.due(i + 1) for i in range(schedule.total_steps))
    total = (
        len(dataset) * encode_seconds
        + schedule.total_steps * step_seconds
        + validations * int(counts[split]) * predict_seconds
    )
    what = (
        f"training: about {_clock(total)} on {compute} ({schedule.total_steps:,} steps of "
        f"{config.batch_size * config.accumulation_steps} photographs at {step_seconds:.2f} s, "
        f"{validations} validations at {_clock(counts[split] * predict_seconds)}, latents once "
        f"{_clock(len(dataset) * encode_seconds)}); estimated from {TRIAL_STEPS} steps"
    )
    findings = [Finding("info", what)]
    if compute.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(compute.device)
        findings.append(Finding("info", f"peak memory in the trial: {_size(peak)} (measured)"))
    return findings


def _shapes_of(config: TrainConfig) -> Backbone:
    """The backbone, without weights where its preset defines all shapes."""
    shapes = bool(find_preset(config.backbone).architecture)
    with torch.device("meta" if shapes else "cpu"):
        return load_backbone(config.backbone, config.random_weights or shapes, config.revision)


def _training_bytes(config: TrainConfig, backbone: Backbone) -> int:
    """All weights, and gradients and Adam's two moments of the trained ones."""
    assert config.decoder_width is not None  # resolved, as the next two
    assert config.decoder_head is not None
    assert config.image_size is not None
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
    """Train photographs of one step, and a few of each other split."""
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


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
