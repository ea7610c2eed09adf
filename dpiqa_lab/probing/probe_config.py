"""Configuration of notebooks 01 and 02; defaults depend on dataset and backbone."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Self

from ..core.config import configuration, option
from ..core.device import DEVICES, EVALUATED
from ..core.errors import LabError
from ..datasets.dataset import QualityDataset
from ..datasets.dataset_config import DatasetConfig
from ..diffusion.loading import resolve_auto
from ..diffusion.presets import find_preset
from ..diffusion.prompts import FACTORS
from .features import POOLINGS


@configuration
class CommonProbeConfig(DatasetConfig):
    """Shared configuration: dataset, backbone, taps and splits."""

    max_images: int | None = option(None, "at most so many, drawn by the seed; None: all", low=30)

    backbone: str = option("auto", "auto, tiny, sd15, sd15-taesd, sd21, a hub id or a folder")
    revision: str | None = option(None, "hub revision of the backbone")
    random_weights: bool = option(False, "the backbone's architecture with random weights")
    prompts: str | None = option(None, "official, figure, merged, none, or a text file")
    timesteps: tuple[int, ...] = option((1, 10, 50, 100, 200), "of the passes", low=0, high=999)
    taps: tuple[str, ...] | None = option(None, "module paths; None: every block")
    poolings: tuple[str, ...] = option(("mean", "std"), "joined for a probe", POOLINGS)
    noise_seed: int | None = option(None, "of noise added to the latents; None: no noise", low=0)

    splits: int = option(10, "random 70/10/20 splits, whole groups together", low=1, high=10_000)
    seed: int = option(0, "of splits and samples", low=0)
    batch_size: int = option(
        8, "photographs a pass; each counts once a timestep", low=1, high=65536
    )
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    precision: str = option(
        "auto", "auto, float32, bfloat16, float16, or int8 (on a CPU)", ("auto", *EVALUATED)
    )
    workers: int = option(0, "processes that read photographs beside the passes", low=0, high=256)
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    no_result: ClassVar[tuple[str, ...]] = ("run_name", "workers", "batch_size")

    def resolve(self) -> Self:
        """A copy with defaults filled in.

        Raises:
            LabError: an unknown dataset, or an impossible value.
        """
        for name in ("timesteps", "poolings"):
            if not getattr(self, name):
                raise LabError(f"{name} is empty: give at least one.")
        backbone = self.backbone
        if backbone == "auto":
            backbone, why = resolve_auto(self.device)
            print(f"backbone auto: {backbone} ({why})")
        values = {
            **self.dataset_defaults(),
            **self.machine_defaults(),
            "backbone": backbone,
            "prompts": self.prompts or find_preset(backbone).prompts,
            "timesteps": tuple(sorted(set(self.timesteps))),
        }
        return dataclasses.replace(self, **values).named()

    def stem(self) -> str:
        """See ``Configuration``."""
        return f"{self.kind}-{self.dataset}-{Path(self.backbone).name}"

    def load_dataset(self) -> QualityDataset:
        """The dataset, or a sample of ``max_images``."""
        dataset = super().load_dataset()
        return dataset if self.max_images is None else dataset.sample(self.max_images, self.seed)

    @property
    def kind(self) -> str:
        """First word of a run's name."""
        return "probe"


@configuration
class ProbeConfig(CommonProbeConfig):
    """Parameters of notebook 01."""

    label_shares: tuple[float, ...] = option((0.1, 0.3, 1.0), "of the labels", low=0.0, high=1.0)
    factors: tuple[str, ...] = option(FACTORS, "words of the prompts that attention is summed over")
    map_photographs: int = option(2000, "photographs on the 2-D map, drawn by the seed", low=5)
    shown: int = option(4, "photographs with activation maps", low=1)


@configuration
class AblationConfig(CommonProbeConfig):
    """Parameters of notebook 02."""

    timesteps: tuple[int, ...] = option(
        (1, 5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 700), "of the passes", low=0, high=999
    )
    other_noise: bool = option(True, "also with noise (or, where noise_seed is set, without)")
    other_prompts: bool = option(True, "also without prompts (or, where there are none, with)")
    other_timesteps: tuple[int, ...] | None = option(
        None, "of these and the random twin; None: the same", low=0, high=999
    )
    random_init_control: bool = option(True, "also the same backbone with random weights")
    simple_statistics: bool = option(True, "also ridge on ten image statistics")
    end_to_end: bool = option(False, "train a teacher at each of end_to_end_timesteps")
    end_to_end_timesteps: tuple[int, ...] = option((1, 50, 400), "of the teachers", low=0, high=999)
    end_to_end_steps: int = option(100, "optimiser steps of each teacher", low=1)

    @property
    def kind(self) -> str:
        """See ``CommonProbeConfig``."""
        return "ablation"
