"""Configuration of the explorer: notebook parameters, panel state, command line."""

import dataclasses
import shlex

from ..core.config import configuration, option
from ..core.device import DEVICES, EVALUATED
from ..core.errors import LabError, unknown
from ..core.paths import notebook_path
from ..core.runs import check_name
from ..datasets.dataset_config import DatasetConfig
from ..datasets.distortions import DISTORTIONS
from ..diffusion.loading import resolve_auto
from ..diffusion.presets import find_preset
from ..probing.features import POOLINGS

STATISTICS = {
    "srcc": "SRCC of the probe",
    "plcc": "PLCC of the probe",
    "channel": "|SRCC| of the best channel",
}
ALL = "all"  # in place of a tap: all chosen ones concatenated
# Fields to reset when a field changes, as they have no meaning for its new value.
_DEPENDENT = {
    "dataset": ("image_size", "mos_range", "lower_better", "photograph", "channel"),
    "data_root": ("photograph",),
    "backbone": ("revision", "prompts", "taps", "channel"),
    "taps": ("channel",),
    "tap": ("channel",),
    "poolings": ("channel",),
}


@configuration
class ExploreConfig(DatasetConfig):
    """A view of the explorer. ``None`` means: decided by the dataset, the backbone or the data."""

    backbone: str = option("auto", "auto, tiny, sd15, sd15-taesd, sd21, a hub id or a folder")
    revision: str | None = option(None, "hub revision of the backbone")
    random_weights: bool = option(False, "the backbone's architecture with random weights")
    prompts: str | None = option(None, "official, figure, merged, none, or a text file")
    noise_seed: int | None = option(None, "add each timestep's noise by this seed", low=0)

    timesteps: tuple[int, ...] = option((1, 50, 200), "to compute and to choose from", None, 0, 999)
    taps: tuple[str, ...] | None = option(None, "module paths; None: mid block and up blocks")
    timestep: int | None = option(None, "shown; None: the first", low=0, high=999)
    tap: str = option(ALL, "shown; all: the chosen ones concatenated")
    poolings: tuple[str, ...] = option(("mean", "std"), "over positions, concatenated", POOLINGS)
    statistic: str = option("srcc", "of the curves", tuple(STATISTICS))
    plot: str = option(
        "score", "against MOS: the probe's score, or a channel", ("score", "channel")
    )
    channel: int | None = option(None, "shown; None: the one that correlates best with MOS", low=0)
    photograph: str | None = option(None, "name; None: the one with the largest error")

    damage: str = option("defocus", "kind of damage", tuple(DISTORTIONS))
    strength: float = option(0.5, "of the damage", low=0.0, high=1.0)
    model: str | None = option(None, "run whose score is shown beside the probe's")
    run_a: str | None = option(None, "run to compare")
    run_b: str | None = option(None, "run to compare it with")

    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    precision: str = option(
        "auto", "auto, float32, bfloat16, float16, or int8 (on a CPU)", ("auto", *EVALUATED)
    )
    batch_size: int = option(8, "photographs a pass", low=1, high=65536)
    name: str = option("explore", "folder under runs/ for what is exported")

    def but(self, **changes: object) -> "ExploreConfig":
        """A resolved copy with changes; fields that depend on a changed one are reset.

        Raises LabError as ``from_parameters``.
        """
        changed = {name for name in changes if changes[name] != getattr(self, name)}
        reset = {name for cause in changed for name in _DEPENDENT.get(cause, ())}
        kept = {k: v for k, v in dataclasses.asdict(self).items() if k not in reset}
        config = ExploreConfig(**{**kept, **changes})
        if "timestep" not in changes and config.timestep not in config.timesteps:
            config = dataclasses.replace(config, timestep=None)
        if "tap" not in changes and config.taps and config.tap not in config.taps:
            config = dataclasses.replace(config, tap=ALL)
        return config.resolve()

    def resolve(self) -> "ExploreConfig":
        """A copy with defaults filled in. Raises LabError for impossible values."""
        backbone = self.backbone
        if backbone == "auto":
            backbone, why = resolve_auto(self.device)
            print(f"backbone auto: {backbone} ({why})")
        if not self.timesteps or not self.poolings or self.taps == ():
            raise LabError("timesteps, taps and poolings must name at least one each.")
        timesteps = tuple(sorted(set(self.timesteps)))
        timestep = timesteps[0] if self.timestep is None else self.timestep
        if timestep not in timesteps:
            raise unknown("timestep", timestep, map(str, timesteps))
        check_name(self.name)
        return dataclasses.replace(
            self,
            backbone=backbone,
            timesteps=timesteps,
            timestep=timestep,
            prompts=self.prompts or find_preset(backbone).prompts,
            **self.dataset_defaults(),
        )

    def command(self) -> str:
        """A papermill command that reproduces this view in a notebook."""
        words = ["papermill", str(notebook_path("06_explore")), "out.ipynb"]
        default = ExploreConfig()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != getattr(default, field.name):
                if isinstance(value, tuple):
                    value = ",".join(map(str, value))
                # -p would read a photograph named 007 as a number.
                words += ["-r" if isinstance(value, str) else "-p", field.name, str(value)]
        return shlex.join(words)
