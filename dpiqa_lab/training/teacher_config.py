"""Configuration for training a teacher; defaults follow from recipe, data and backbone."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from ..core.config import configuration, option
from ..core.device import DEVICES, PRECISIONS
from ..core.errors import LabError
from ..datasets.dataset_config import DatasetConfig
from ..diffusion.loading import resolve_auto
from ..diffusion.presets import find_preset
from ..diffusion.text_embeddings import POOLINGS
from ..models.image_adapter import has_image_adapter
from ..models.pooled_regressor import HEADS
from ..models.teacher import TRAINABLE
from .learning_rates import SCALINGS

# What the paper describes against what the authors' code does. Each is a field that can be set
# alone; a field left at None takes its recipe's value. Other fields on which the two differ, the
# paper's sources speaking for several: prompts ("figure" for the figure's wording), prompt_pooling
# ("mean" for the figure's), ranking_weight (the paper's loss has more than one term; the code has
# a ranking loss, switched off) and latents ("sample" in the code).
RECIPES = {
    "default": {"vae_input": "[-1,1]", "select_on": "val"},
    "official": {"vae_input": "[0,1]", "select_on": "test"},
}
# Epochs after which the paper's rate falls to a fifth, where they are not 5 (KonIQ, SPAQ).
MILESTONES = {"clive": (10,), "livefb": (2,)}


@configuration
class TrainConfig(DatasetConfig):
    """Parameters of a teacher training; ``None`` means: decided by ``resolve``, and recorded."""

    backbone: str = option("auto", "auto, tiny, sd15, sd15-taesd, sd21, a hub id or a folder")
    revision: str | None = option(None, "hub revision of the backbone")
    random_weights: bool = option(False, "the backbone's architecture with random weights")
    prompts: str | None = option(None, "official, figure, merged, none, or a text file")
    prompt_pooling: str = option("eos", "eos (code) or mean (paper's figure)", POOLINGS)
    timestep: int = option(1, "of the one U-Net pass", low=0, high=999)
    latents: str = option("mean", "posterior mean, or a seeded sample", ("mean", "sample"))
    text_adapter: bool = option(True, "whether the teacher has one")
    image_adapter: bool = option(True, "whether the teacher has one")
    up_blocks: int | None = option(
        None, "number of up blocks fed to the decoder, deepest first; None: all", low=1, high=16
    )
    patches: int = option(
        1,
        "a side, which the U-Net sees apart; 1: the whole photograph, as published",
        low=1,
        high=8,
    )
    decoder_width: int | None = option(None, "512 as published", low=8, high=8192)
    decoder_head: str | None = option(None, "flat (as published) or pooled", HEADS)
    start: str | None = option(
        None, "of the decoder: torch (as published) or calibrated", ("torch", "calibrated")
    )
    adapter_start: str | None = option(
        None, "of the image adapter: torch, frequencies, prior, or a frequency student's run"
    )

    recipe: str = option("default", "default, or official: as the authors' code", tuple(RECIPES))
    vae_input: str | None = option(None, "[-1,1] or [0,1]", ("[-1,1]", "[0,1]"))
    select_on: str | None = option(None, "part that chooses the checkpoint", ("val", "test"))

    trainable: str = option("all", "what is trained", TRAINABLE)
    lora_rank: int = option(8, "of trainable=lora", low=1, high=1024)
    epochs: int = option(30, "passes over the train part", low=1)
    max_steps: int | None = option(None, "stop after this many optimiser steps", low=1)
    batch_size: int = option(16, "photographs a step and device", low=1, high=65536)
    accumulation_steps: int = option(1, "batches an optimiser step", low=1)
    learning_rate: float | None = option(None, "of Adam", low=0.0)
    rate_scaling: str | None = option(None, "of the rate by layer, see training.rates", SCALINGS)
    warmup_steps: int = option(0, "over which the rate rises from 0", low=0)
    clip_norm: float | None = option(
        None, "limit of the gradient's norm; None as published", low=0.0
    )
    lr_milestones: tuple[int, ...] | None = option(
        None, "epochs after which the rate falls; None: the paper's for the dataset"
    )
    lr_decay: float = option(0.2, "what it falls by", low=0.0, high=1.0)
    ranking_weight: float = option(0.0, "weight of the margin ranking loss", low=0.0)
    correlation_weight: float | None = option(
        None, "weight of 1 - PLCC over a batch, halved; 0 as published", low=0.0
    )
    validate_every: int = option(250, "steps between validations and checkpoints", low=1)
    patience: int | None = option(None, "validations without a better SRCC before stopping", low=1)
    gradient_checkpointing: bool = option(False, "less memory, about a third more time")

    seed: int = option(0, "of initialisation, order and sampling", low=0)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    precision: str = option("auto", "auto, float32, bfloat16 or float16", ("auto", *PRECISIONS))
    compile: bool = option(False, "torch.compile: minutes at first, then faster; pays on a GPU")
    workers: int = option(
        0, "processes that read photographs beside the training; 0: none", low=0, high=256
    )
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    def resolve(self) -> Self:
        """The same with every ``None`` that has a default replaced by it.

        Raises:
            LabError: an unknown dataset, or an impossible value.
        """
        backbone = self.backbone
        if backbone == "auto":
            backbone, why = resolve_auto(self.device)
            print(f"backbone auto: {backbone} ({why})")
        preset = find_preset(backbone)
        defaults = {
            "prompts": preset.prompts,
            "decoder_width": preset.decoder_width,
            "decoder_head": preset.decoder_head,
            "start": preset.start,
            "correlation_weight": preset.correlation_weight,
            "learning_rate": preset.learning_rate,
            "rate_scaling": preset.rate_scaling,
            "lr_milestones": MILESTONES.get(self.dataset, (5,)),
            **RECIPES[self.recipe],
        }
        if (self.start or preset.start) == "calibrated":
            trained = not self.random_weights and has_image_adapter(preset.source)
            defaults["adapter_start"] = "prior" if trained else "frequencies"
        else:
            defaults["adapter_start"] = "torch"
        missing: dict[str, Any] = {
            name: value for name, value in defaults.items() if getattr(self, name) is None
        }
        missing |= {"backbone": backbone, **self.machine_defaults(), **self.dataset_defaults()}
        config = dataclasses.replace(self, **missing)
        if config.latents == "sample" and (backbone == "tiny" or preset.vae):
            raise LabError(
                f"latents='sample': the VAE of {backbone!r} has no posterior; use 'mean'."
            )
        return config.named()

    def stem(self) -> str:
        """See ``Configuration``."""
        return f"{self.dataset}-{Path(self.backbone).name.replace('/', '-')}"
