"""``train_teacher``: from a config to a run folder with weights, predictions and metrics."""

import pandas as pd
import torch
from torch import nn

from .. import metrics
from ..core.device import (
    Compute,
    choose_compute,
    keep_freed_memory,
    make_deterministic,
    out_of_memory,
)
from ..core.errors import LabError
from ..core.runs import Run, open_run
from ..datasets.dataset import QualityDataset, load_dataset
from ..datasets.pixels import Pixels
from ..diffusion.backbone import describe_record
from ..diffusion.latents import dataset_latents
from ..diffusion.loading import load_backbone
from ..diffusion.taps import FeatureTaps
from ..models.calibrate import standardise_layers, start_at_frequencies, start_at_ridge
from ..models.teacher import Teacher
from .batches import StepBatches
from .checkpoints import drop_checkpoints, find_weights, load_weights, save_weights
from .config import TrainConfig
from .loop import Schedule, Task, fit
from .losses import score_loss
from .rates import rate_groups

EVALUATION_BATCH = 16
# Photographs that a calibrated start is fitted to, at most.
CALIBRATED_ON = 512


def train_teacher(config: TrainConfig, dataset: QualityDataset | None = None) -> Run:
    """Train a teacher, or continue or reuse the run of that name.

    Args:
        config: a resolved config.
        dataset: in place of the one that ``config`` names (for splits of one's own).

    Returns:
        The run, completed: ``run.summary()``, ``run.history()``, ``run.predictions()``.

    Raises:
        LabError: bad input, before any long work; out of memory, with what to lower.
    """
    compute = choose_compute(config.device, config.precision)
    make_deterministic()
    keep_freed_memory()
    with open_run(config.run_name, config.numbers(), compute) as run:
        if run.reused():
            return run
        print(f"run {run.path}\ncomputing on {compute}")
        dataset = dataset or load_dataset(config.dataset, **config.dataset_options())
        print(dataset, *dataset.manifest.notes, sep="\n")
        try:
            _train(run, config, dataset, compute)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise LabError(
                f"out of memory on {compute.device}: lower batch_size (now {config.batch_size}; "
                "accumulation_steps keeps the effective size) or image_size (now "
                f"{config.image_size}), set gradient_checkpointing=True, or train less: "
                "trainable='lora', 'adapters' or 'decoder'."
            ) from error
        run.state = "completed"
        return run


def build_teacher(config: dict) -> Teacher:
    """The teacher that a run's ``config.json`` describes, with its initial weights."""
    backbone = load_backbone(
        config["backbone"], config["random_weights"], config["revision"], config["seed"]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        teacher = Teacher(
            backbone,
            prompts=config["prompts"],
            timestep=config["timestep"],
            decoder_width=config["decoder_width"],
            text_adapter=config["text_adapter"],
            image_adapter=config["image_adapter"],
            vae_input=config["vae_input"],
            image_size=config["image_size"],
            prompt_pooling=config["prompt_pooling"],
        )
        teacher.set_trainable(config["trainable"], config["lora_rank"])
    return teacher


def load_teacher(run: Run, weights: str = "best") -> Teacher:
    """The teacher of a run: "best" by validation, or "last".

    Raises:
        LabError: the run has no such weights yet.
    """
    path = find_weights(run, weights)
    teacher = build_teacher(run.config)
    teacher.load_trainable_state(load_weights(path))
    return teacher.eval()


class TeacherTask(Task):
    """What the fit loop needs of a teacher: steps of train photographs with their latents."""

    goal = "srcc"

    def __init__(self, teacher: Teacher, dataset: QualityDataset, config: TrainConfig, compute):
        self.network = teacher
        self.config = config
        self.compute = compute
        self.parts = {name: dataset.part_of(name) for name in ("train", "val", "test")}
        self.latents = {name: self._latents(part) for name, part in self.parts.items()}
        self.steps = StepBatches(
            Pixels(self.parts["train"]),
            config.batch_size,
            config.accumulation_steps,
            config.seed,
            config.workers,
        )

    def start(self) -> None:
        """See ``loop.Task``."""
        if self.config.start == "calibrated":
            self._calibrate()

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Fit the untrained parts' start to train photographs, drawn by the seed."""
        teacher, decoder = self.network, self.network.quality_feature_decoder
        mos = self.steps.dataset.mos
        generator = torch.Generator().manual_seed(self.config.seed)
        chosen = torch.randperm(len(mos), generator=generator)[:CALIBRATED_ON]
        few = chosen[:64].split(EVALUATION_BATCH)
        if teacher.image_adapter is not None:
            images = torch.cat([self._inputs("train", part)[0] for part in few])
            start_at_frequencies(teacher.image_adapter, images)
        levels = [teacher.levels(*self._inputs("train", part)) for part in few]
        levels = [torch.cat(level) for level in zip(*levels, strict=True)]
        standardise_layers(decoder, lambda: decoder(levels))
        last = "quality_feature_decoder.regressor.fc2"
        seen = []
        for part in chosen.split(EVALUATION_BATCH):
            with self.compute.autocast(), FeatureTaps(teacher, [last], stop=True) as taps:
                teacher(*self._inputs("train", part))
            seen.append(taps[last].float().relu())
        start_at_ridge(decoder.regressor.fc3, torch.cat(seen), mos[chosen])

    def _inputs(self, part: str, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and latents of some photographs of a part."""
        pixels = Pixels(self.parts[part])
        images = torch.stack([pixels[int(i)][0] for i in positions])
        return self._images(images), self._pick(part, positions)

    def parameter_groups(self) -> list[dict]:
        """See ``loop.Task``."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return rate_groups(trained, self.config.rate_scaling)

    def batches(self, epoch: int, start: int):
        """See ``loop.Task``."""
        return self.steps.epoch(epoch, start)

    def loss(self, model: nn.Module, batch) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        pixels, mos, positions = batch
        output = model(self._images(pixels), self._pick("train", positions))
        mos = mos.to(self.compute.device)
        weights = self.config.ranking_weight, self.config.correlation_weight
        return score_loss(output.score, mos, *weights), len(mos)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``; on the part that chooses the checkpoint."""
        table = self.predict(model, self.config.select_on)
        score, mos = table["score"], table["mos"]
        return {
            "srcc": metrics.srcc(score, mos),
            "plcc": metrics.plcc(score, mos),
            "rmse": metrics.rmse(score, mos),
        }

    @torch.no_grad()
    def predict(self, model: nn.Module, part: str) -> pd.DataFrame:
        """name, mos, score, split, and group and subset where known, of a part."""
        model.eval()
        dataset = self.parts[part]
        loader = torch.utils.data.DataLoader(
            Pixels(dataset), batch_size=EVALUATION_BATCH, num_workers=self.config.workers
        )
        scores = []
        for pixels, _, positions in loader:
            with self.compute.autocast():
                output = model(self._images(pixels), self._pick(part, positions))
            scores.append(output.score.float().cpu())
        table = dataset.table
        kept = [name for name in ("subset", "group") if name in table]
        table = table[["name", "mos", "split", *kept]].assign(score=torch.cat(scores).numpy())
        return table[["name", "mos", "score", "split", *kept]]

    def _latents(self, part: QualityDataset) -> torch.Tensor:
        return dataset_latents(
            self.network.backbone,
            part,
            self.compute,
            self.config.vae_input,
            self.config.seed if self.config.latents == "sample" else None,
            self.config.workers,
        )

    def _pick(self, part: str, positions: torch.Tensor) -> torch.Tensor:
        return self.latents[part][positions].to(self.compute.device)

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.to(self.compute.device, non_blocking=True).float().div(255)


def _train(run: Run, config: TrainConfig, dataset: QualityDataset, compute: Compute) -> None:
    teacher = build_teacher(run.config)
    backbone = describe_record(teacher.backbone.record)
    print(f"backbone {backbone}")
    if config.gradient_checkpointing:
        teacher.backbone.unet.enable_gradient_checkpointing()
    task = TeacherTask(teacher, dataset, config, compute)
    if len(dataset.manifest.skipped):
        run.write_table("skipped", dataset.manifest.skipped)
    run.write_table("split", dataset.manifest.table[["name", "split"]])
    schedule = schedule_of(config, len(task.steps))
    progress = fit(run, task, schedule, compute)
    save_weights(run.checkpoints / "last.safetensors", teacher.trainable_state())
    teacher.load_trainable_state(load_weights(run.checkpoints / "best.safetensors"))
    predictions = pd.concat([task.predict(teacher, part) for part in ("val", "test")])
    run.write_table("predictions", predictions)
    run.write_summary(
        "completed",
        metrics=_metrics(predictions),
        steps=progress.step,
        best_step=progress.best_step,
        seconds=round(progress.seconds, 1),
        backbone=backbone,
        dataset=repr(dataset),
        split=dataset.manifest.split,
        select_on=config.select_on,
        recipe=config.recipe,
        notes=_notes(config, dataset, teacher),
    )
    drop_checkpoints(run.checkpoints)


def schedule_of(config: TrainConfig, steps_per_epoch: int) -> Schedule:
    """How long and how fast a config trains."""
    return Schedule(
        steps_per_epoch=steps_per_epoch,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_milestones=config.lr_milestones,
        lr_decay=config.lr_decay,
        max_steps=config.max_steps,
        validate_every=config.validate_every,
        patience=config.patience,
        clip_norm=config.clip_norm,
        warmup_steps=config.warmup_steps,
    )


def _metrics(predictions: pd.DataFrame) -> dict:
    """Per part, and where the dataset has subsets per subset of the test part."""
    result = {}
    for part, table in predictions.groupby("split"):
        result[part] = _summary(table)
        if "subset" in table:
            subsets = {name: _summary(rows) for name, rows in table.groupby("subset")}
            result[part]["subsets"] = subsets
    return result


def _summary(table: pd.DataFrame) -> dict:
    return metrics.summary(table["score"], table["mos"], groups=table.get("group"))


def _notes(config: TrainConfig, dataset: QualityDataset, teacher: Teacher) -> list[str]:
    notes = list(dataset.manifest.notes)
    if teacher.backbone.record["random_weights"]:
        notes.append("the backbone has RANDOM weights: no diffusion prior is at work")
    if config.select_on == "test":
        notes.append("the checkpoint was CHOSEN ON THE TEST PART, as the authors' code does")
    if config.vae_input == "[0,1]":
        notes.append("the VAE sees [0,1], as the authors' code feeds it, not the [-1,1] it knows")
    return notes
