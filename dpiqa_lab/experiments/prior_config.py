"""Configuration for training a small prior."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from ..core.config import Configuration, configuration, option
from ..core.device import DEVICES, PRECISIONS
from ..core.errors import LabError


@configuration
class PriorConfig(Configuration):
    """Parameters of notebook 00."""

    photographs: str | None = option(None, "folder of images of at least 256x256 pixels")
    names: str | None = option(None, "CSV whose first column lists the files; None: all")
    pattern: str = option("*", "of file names, as ss03*")
    views: int = option(4, "views of each image", low=1, high=1000)

    vae_steps: int = option(3600, "optimiser steps of the VAE", low=1)
    vae_linear: int = option(300, "first steps, on principal components", low=0)
    vae_batch: int = option(8, "crops a step", low=1, high=65536)
    vae_crop: int = option(128, "side of a crop in pixels", low=64, high=256)
    vae_rate: float = option(2e-3, "learning rate, falling to 0 by a cosine", low=0.0)
    decoder_steps: int = option(1500, "further steps of the VAE's decoder; 0: none", low=0)

    adapter_steps: int = option(1500, "optimiser steps of the image adapter", low=1)
    adapter_batch: int = option(32, "views a step", low=1, high=65536)
    adapter_rate: float = option(2e-3, "learning rate, falling to 0 by a cosine", low=0.0)
    adapter_statistics: float = option(
        1.0, "weight of image statistics relative to distortions", low=0.0
    )

    unet_steps: int = option(2200, "optimiser steps of U-Net and text encoder", low=1)
    unet_batch: int = option(16, "views a step", low=1, high=65536)
    unet_rate: float = option(5e-4, "learning rate, falling to 0 by a cosine", low=0.0)
    drop_caption: float = option(0.1, "share of captions dropped", low=0.0, high=1.0)
    damage_weight: float = option(
        3.0, "weight of distortion prediction relative to denoising", low=0.0
    )

    validate_every: int = option(200, "steps between validations and checkpoints", low=1)
    seed: int = option(0, "of views, initialisation and order", low=0)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    precision: str = option("auto", "auto, float32, bfloat16 or float16", ("auto", *PRECISIONS))
    workers: int = option(2, "processes that make views", low=0, high=256)
    run_name: str = option("prior", "folder under runs/")

    no_result: ClassVar[tuple[str, ...]] = ("run_name", "workers", "photographs", "names")

    def resolve(self) -> "PriorConfig":
        """A copy with absolute folder, device and precision.

        Raises:
            LabError: no folder, or an impossible value.
        """
        if self.photographs is None:
            raise LabError(
                "photographs is not set: give a folder of photographs, as "
                "-p photographs my_pictures; hundreds are few, thousands are better."
            )
        if self.vae_crop % 8:
            raise LabError(f"vae_crop must be a multiple of 8 pixels, got {self.vae_crop}.")
        folder = str(Path(self.photographs).expanduser().resolve())
        found = {"photographs": folder, **self.machine_defaults()}
        return dataclasses.replace(self, **found).named()
