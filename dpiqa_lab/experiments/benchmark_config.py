"""Configuration of notebook 07."""

import dataclasses
from pathlib import Path
from typing import Any

from ..core.config import Configuration, configuration, option
from ..core.device import DEVICES, EVALUATED, Compute, choose_compute
from ..core.errors import LabError
from ..diffusion.presets import find_preset
from ..models.trunks import find_trunk


@configuration
class BenchmarkConfig(Configuration):
    """Parameters of a benchmark; the photographs are generated."""

    backbone: str = option("tiny", "tiny, sd15, sd21, a hub id, or a folder in diffusers layout")
    random_weights: bool = option(False, "random weights: same speed, no download")
    prompts: str | None = option(None, "official, figure, merged, none, or a text file")
    student: str = option("efficientnet_b7", "trunk of the student")
    image_size: int = option(256, "side in pixels; a multiple of 64", low=64, high=8192)
    photographs: int = option(4, "number of images scored", low=1)
    batch_sizes: tuple[int, ...] = option((1, 4), "images per pass", low=1)
    precisions: tuple[str, ...] = option(("float32", "bfloat16"), "compared", EVALUATED)
    timesteps: int = option(10, "of the sweep over timesteps and layers", low=1, high=1000)
    training: bool = option(True, "measure backward and training steps too")
    compile: bool = option(False, "measure passes compiled too; takes minutes per batch size")
    rounds: int = option(3, "measurements of each candidate; the best counts", low=1)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    def resolve(self) -> "BenchmarkConfig":
        """A copy with prompt set, device and run name.

        Raises:
            LabError: an impossible value.
        """
        find_trunk(self.student)
        for name in ("batch_sizes", "precisions"):
            if not getattr(self, name):
                raise LabError(f"{name} is empty: give at least one.")
        # The plain reference is float32.
        precisions = tuple(dict.fromkeys(("float32", *self.precisions)))
        prompts = self.prompts or find_preset(self.backbone).prompts
        device = choose_compute(self.device).device
        found: dict[str, Any] = {
            "precisions": precisions,
            "prompts": prompts,
            "device": str(device),
        }
        return dataclasses.replace(self, **found).named()

    def compute(self) -> Compute:
        """See ``Configuration``: the first of ``precisions``, not compiled."""
        return choose_compute(self.device, self.precisions[0])

    def stem(self) -> str:
        """See ``Configuration``."""
        return f"benchmark-{Path(self.backbone).name}-{self.image_size}"
