"""Configurations for training the two peers: PMT-IQA, and Re-IQA's quality encoder."""

import dataclasses
from typing import ClassVar

from ..core.config import configuration, option
from ..core.device import DEVICES, PRECISIONS
from ..core.errors import LabError
from ..datasets.dataset_config import DatasetConfig


@configuration
class PeerConfig(DatasetConfig):
    """Shared configuration; ``None`` means: decided by ``resolve``, and recorded."""

    kind: ClassVar[str]

    trunk: str = option("resnet50", "resnet_tiny, resnet18, resnet34 or resnet50")
    max_images: int | None = option(
        None, "of the train part to train on, drawn by the seed; None: all", low=1
    )
    validate_every: int = option(250, "steps between validations and checkpoints", low=1)
    seed: int = option(0, "of initialisation, order and crops", low=0)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    precision: str = option("auto", "auto, float32, bfloat16 or float16", ("auto", *PRECISIONS))
    workers: int = option(
        0, "processes that make batches beside the training; 0: none", low=0, high=256
    )
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    def resolve(self) -> "PeerConfig":
        """The same with every ``None`` that has a default replaced by it.

        Raises:
            LabError: an unknown dataset, or an impossible value.
        """
        found = {**self.dataset_defaults(), **self.machine_defaults()}
        config = dataclasses.replace(self, **found)
        if config.image_size is None:
            raise LabError(f"image_size: {config.dataset} has no size of its own; set one, as 512.")
        return config.named()

    def stem(self) -> str:
        """See ``Configuration``."""
        return f"{self.dataset}-{self.kind.replace('_', '-')}"

    def identity(self) -> dict:
        """See ``Configuration``; ``kind`` says which of the peers it is."""
        return {"kind": self.kind, **super().identity()}


@configuration
class PmtIqaConfig(PeerConfig):
    """Parameters of a PMT-IQA; the defaults are the published ones, where these are known."""

    kind: ClassVar[str] = "pmt_iqa"

    weights: str | None = option(None, "of the trunk: hub (ImageNet), a folder, or None: random")
    crop_size: int = option(224, "side of a crop in pixels", low=32)
    crops: int = option(4, "random crops of a photograph and epoch", low=1, high=1000)
    epochs: int = option(20, "passes over the train part", low=1)
    batch_size: int = option(8, "photographs a step", low=1, high=65536)
    learning_rate: float = option(1e-4, "of Adam", low=0.0)
    weight_decay: float = option(5e-4, "of Adam", low=0.0)
    lr_every: int = option(6, "epochs after which the rate falls to a tenth, each time", low=1)
    mos_scale: float = option(
        100.0, "length of the scale that the L1 is taken on; the paper names none", low=0.0
    )

    def regression(self, epoch: int) -> float:
        """Share of the regression in the loss: 0 in the first epoch, 1 in the last."""
        return epoch / (self.epochs - 1) if self.epochs > 1 else 1.0


@configuration
class QualityEncoderConfig(PeerConfig):
    """Parameters of a quality encoder, trained as Re-IQA's idea is, on a scale for a laptop."""

    kind: ClassVar[str] = "quality_encoder"

    trunk: str = option("resnet18", "resnet_tiny, resnet18, resnet34 or resnet50")
    crop_size: int = option(96, "side of a crop in pixels", low=32)
    scenes: int = option(8, "photographs a step", low=2, high=65536)
    versions: int = option(
        3, "of each photograph a step, the first of them undamaged", low=1, high=1000
    )
    temperature: float = option(0.1, "that similarities are divided by", low=1e-3)
    steps: int = option(600, "optimiser steps", low=1)
    learning_rate: float = option(1e-3, "of Adam, falling to 0 by a cosine", low=0.0)
