"""``train_teacher``: from a config to a run folder with weights, predictions and metrics."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..core.config import resolves
from ..core.device import Compute
from ..core.errors import LabError, listing
from ..core.identity import Inputs, files_input
from ..core.runs import Run, find_run
from ..datasets.dataset import QualityDataset
from ..datasets.pixels import Pixels
from ..diffusion.backbone import describe_record
from ..diffusion.latents import dataset_latents
from ..diffusion.loading import load_backbone
from ..diffusion.model_inputs import backbone_inputs
from ..diffusion.presets import find_preset
from ..models.frequency_trunk import FrequencyTrunk
from ..models.image_adapter import ImageAdapter, load_image_adapter
from ..models.image_scorer import ModelOutput
from ..models.initialization import init_from_frequencies, init_from_ridge, standardise_layers
from ..models.teacher import Teacher
from ..models.trainable import misfits
from ..ridge import fit_ridge_left_out
from .batches import StepBatches
from .checkpoints import find_weights, load_weights, naming
from .learning_rates import parameter_groups
from .losses import score_loss
from .run_fingerprint import check_pretrained, recorded_revision, run_fingerprint
from .scored_run import EVALUATION_BATCH, ScoreTask, fit_and_record, run_training
from .student_model import load_student
from .teacher_config import TrainConfig

# Photographs that a calibrated start is fitted to, at most.
CALIBRATED_ON = 8192
# Those whose deviations set the scale of layers.
FITTED = 64


@resolves
def train_teacher(
    config: TrainConfig, dataset: QualityDataset | None = None, rename: bool | None = None
) -> Run:
    """Train a teacher, or continue or reuse the run of that name.

    Args:
        config: as ``TrainConfig.from_parameters({"dataset": "demo"})`` gives it.
        dataset: in place of the one that ``config`` names (for splits of one's own).
        rename: where a run of that name has other inputs, take another name in place of refusing;
            ``None`` is where the name was made up.

    Returns:
        The run, completed: ``run.summary()``, ``run.history()``, ``run.predictions()``.

    Raises:
        LabError: bad input, before any long work; out of memory, with what to lower.
    """
    advice = (
        "set gradient_checkpointing=True, or train less: trainable='lora', 'adapters' or 'decoder'."
    )
    dataset = dataset or config.load_dataset()
    inputs = teacher_inputs(config, dataset)
    return run_training(config, dataset, inputs, _train, advice, rename)


def teacher_inputs(config: TrainConfig, dataset: QualityDataset | None = None) -> Inputs:
    """What goes into a teacher's training; ``dataset`` in place of the one that is named."""
    models = backbone_inputs(
        config.backbone, config.prompts, config.random_weights, config.revision, config.seed
    )
    if config.image_adapter and config.adapter_start == "prior":
        source = find_preset(config.backbone).source
        models["image_adapter"] = files_input(Path(source) / "image_adapter")
    elif config.image_adapter and config.adapter_start not in ("torch", "frequencies"):
        models["adapter_start"] = run_fingerprint(find_run(config.adapter_start))
    return (dataset or config.load_dataset()).inputs(models)


def build_teacher(config: dict, prompt_embeddings: torch.Tensor | None = None) -> Teacher:
    """The teacher that a run's ``config.json`` describes, with its initial weights.

    ``prompt_embeddings`` where they are known; else they are computed of the prompts.
    """
    backbone = load_backbone(
        config["backbone"], config["random_weights"], config["revision"], config["seed"]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        teacher = Teacher(
            backbone,
            prompts=config["prompts"] if prompt_embeddings is None else prompt_embeddings,
            timestep=config["timestep"],
            decoder_width=config["decoder_width"],
            decoder_head=config["decoder_head"],
            text_adapter=config["text_adapter"],
            image_adapter=config["image_adapter"],
            vae_input=config["vae_input"],
            image_size=config["image_size"],
            prompt_pooling=config["prompt_pooling"],
            up_blocks=config["up_blocks"],
            patches=config["patches"],
        )
        teacher.set_trainable(config["trainable"], config["lora_rank"])
    return teacher


def load_teacher(run: Run, weights: str = "best") -> Teacher:
    """The teacher of a run: "best" by validation, or "last".

    Whatever its weights lack is taken from where the run took it: a frozen U-Net, the VAE.

    Raises:
        LabError: the run has no such weights yet, they do not fit, or what they lack is not what
            the run was trained on.
    """
    path = find_weights(run, weights)
    state = load_weights(path)
    embeddings = state.get("prompt_embeddings")
    lacking = ["vae"]
    if not any(name.startswith("backbone.unet.conv_out.") for name in state):
        lacking.append("unet")
    if embeddings is None:  # an earlier version's
        lacking.append("text_encoder")
        _warn_of_adapter(run)
    check_pretrained(run, lacking)
    config = {**run.config, "revision": recorded_revision(run)}
    teacher = build_teacher(config, embeddings)
    with naming(path):
        teacher.load_run_state(state)
    return teacher.eval()


def _warn_of_adapter(run: Run) -> None:
    """Earlier versions did not keep an adapter that was not trained, whatever it started as."""
    config = run.config
    started = config["image_adapter"] and config.get("adapter_start", "torch") != "torch"
    if started and config["trainable"] == "decoder":
        warnings.warn(
            f"run {run.name} was written by a version that did not keep its image adapter: a "
            "random one is in its place, and scores differ from predictions.csv. Train it again.",
            stacklevel=4,
        )


def load_adapter(adapter: ImageAdapter, start: str, source: str) -> None:
    """Let an image adapter start as one that has been trained by itself.

    Args:
        start: "prior", the one in the backbone's folder ``source``; or the run of a student with
            the trunk "frequency", whose network it is.

    Raises:
        LabError: there is none, or it does not fit this backbone's U-Net.
    """
    if start == "prior":
        state = load_image_adapter(source)
    else:
        student = load_student(find_run(start))
        if not isinstance(student.trunk, FrequencyTrunk):
            raise LabError(
                f"adapter_start={start!r}: expected a student trained with trunk='frequency', this "
                f"one has {student.trunk_name!r}."
            )
        state = student.trunk.stages.state_dict()
    problems = misfits(adapter.state_dict(), state)
    if problems:
        raise LabError(f"adapter_start={start!r} does not fit this U-Net:\n{listing(problems)}")
    adapter.load_state_dict(state)


class TeacherTask(ScoreTask):
    """The fit loop's task: steps of train images with their latents."""

    network: Teacher

    def __init__(
        self, teacher: Teacher, dataset: QualityDataset, config: TrainConfig, compute: Compute
    ) -> None:
        super().__init__(teacher, dataset, config, compute)
        self.fitted_start = config.start == "calibrated"
        self.latents = {name: self._latents(name) for name in self.parts}
        self.steps = StepBatches(
            Pixels(self.parts["train"]),
            config.batch_size,
            config.accumulation_steps,
            config.seed,
            config.workers,
        )

    def start(self) -> None:
        """See ``loop.Task``."""
        if self.network.image_adapter is not None:
            self._start_adapter()
        if self.config.start == "calibrated":
            self._calibrate()

    def _start_adapter(self) -> None:
        adapter, start = self.network.image_adapter, self.config.adapter_start
        if start == "frequencies":
            few = self._drawn(FITTED).split(EVALUATION_BATCH)
            images = torch.cat([self._inputs("train", part)[0] for part in few])
            init_from_frequencies(adapter, images)
        elif start != "torch":
            load_adapter(adapter, start, find_preset(self.config.backbone).source)

    def _drawn(self, count: int) -> torch.Tensor:
        """Positions of train photographs, by the seed."""
        generator = torch.Generator().manual_seed(self.config.seed)
        return torch.randperm(len(self.steps.dataset), generator=generator)[:count]

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Fit the decoder's start to train photographs, drawn by the seed."""
        teacher, decoder = self.network, self.network.quality_feature_decoder
        chosen = self._drawn(CALIBRATED_ON)
        few = chosen[:FITTED].split(EVALUATION_BATCH)
        levels = [teacher.levels(*self._inputs("train", part)) for part in few]
        levels = [torch.cat(level) for level in zip(*levels, strict=True)]
        standardise_layers(decoder, lambda: decoder(levels))
        table = self.parts["train"].table.iloc[chosen.numpy()]
        groups = table["group"].to_numpy() if "group" in table else None
        inputs = self._fitted_inputs(chosen)
        ridge = fit_ridge_left_out(inputs, table["mos"].to_numpy(float), groups)
        init_from_ridge(decoder.regressor.fc3, ridge)

    def _fitted_inputs(self, chosen: torch.Tensor) -> np.ndarray:
        """What the last layer's start is fitted to (n, d), of train photographs."""
        regressor, seen = self.network.quality_feature_decoder.regressor, []
        handle = regressor.fc3.register_forward_pre_hook(
            lambda _layer, inputs: seen.append(inputs[0][:, -regressor.fitted :])
        )
        try:
            for some in chosen.split(EVALUATION_BATCH):
                with self.compute.autocast():
                    self.network(*self._inputs("train", some))
        finally:
            handle.remove()
        return torch.cat(seen).double().cpu().numpy()

    def _inputs(self, part: str, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and latents of some photographs of a part."""
        pixels = Pixels(self.parts[part])
        images = torch.stack([pixels[int(i)][0] for i in positions])
        return self.images(images), self._pick(part, positions)

    def parameter_groups(self) -> list[dict]:
        """See ``loop.Task``."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return parameter_groups(trained, self.config.rate_scaling)

    def batches(self, epoch: int, start: int) -> Iterator[list]:
        """See ``loop.Task``."""
        return self.steps.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        pixels, mos, positions = batch
        output = model(self.images(pixels), self._pick("train", positions))
        mos = mos.to(self.compute.device)
        weights = self.config.ranking_weight, self.config.correlation_weight
        return score_loss(output.score, mos, *weights), len(mos)

    def output(
        self, model: nn.Module, pixels: torch.Tensor, split: str, positions: torch.Tensor
    ) -> ModelOutput:
        """See ``scored_run.ScoreTask``."""
        return model(self.images(pixels), self._pick(split, positions))

    def _latents(self, part: str) -> torch.Tensor:
        # Samples to learn from; what is scored has the mean, as in ``Teacher.score``.
        sampled = self.config.latents == "sample" and part == "train"
        return dataset_latents(
            self.network.backbone,
            self.parts[part],
            self.compute,
            self.config.vae_input,
            self.config.seed if sampled else None,
            self.config.workers,
        )

    def _pick(self, part: str, positions: torch.Tensor) -> torch.Tensor:
        return self.latents[part][positions].to(self.compute.device)


def _train(run: Run, config: TrainConfig, dataset: QualityDataset, compute: Compute) -> dict:
    teacher = build_teacher(run.config)
    backbone = describe_record(teacher.backbone.record)
    print(f"backbone {backbone}")
    if config.gradient_checkpointing:
        teacher.backbone.unet.enable_gradient_checkpointing()
    task = TeacherTask(teacher, dataset, config, compute)
    notes = []
    if teacher.backbone.record["random_weights"]:
        notes.append("the backbone has RANDOM weights: no diffusion prior is at work")
    if config.vae_input == "[0,1]":
        notes.append("the VAE sees [0,1], as the authors' code feeds it, not the [-1,1] it knows")
    return fit_and_record(run, task, dataset, notes, backbone=backbone, recipe=config.recipe)
