"""Everything notebook 07 is told."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ..core.device import DEVICES, EVALUATED
from ..core.errors import LabError
from ..core.files import json_hash
from ..core.parameters import build, documented, option
from ..core.runs import check_name
from ..diffusion.presets import find_preset
from ..models.trunks import find_trunk


@documented
@dataclass(frozen=True)
class BenchmarkConfig:
    """Parameters of a benchmark; the photographs are generated."""

    backbone: str = option("tiny", "tiny, sd15, sd21, a hub id, or a folder in diffusers layout")
    random_weights: bool = option(False, "the architecture alone: as fast, and no download")
    prompts: str | None = option(None, "official, figure, merged, none, or a text file")
    student: str = option("efficientnet_b7", "trunk of the student")
    image_size: int = option(256, "side in pixels; a multiple of 64", low=64, high=8192)
    photographs: int = option(4, "that are scored in the comparison", low=1)
    batch_sizes: tuple[int, ...] = option((1, 4), "photographs a pass", low=1)
    precisions: tuple[str, ...] = option(("float32", "bfloat16"), "compared", EVALUATED)
    timesteps: int = option(10, "of the sweep over timesteps and layers", low=1, high=1000)
    training: bool = option(True, "measure backward and training steps too")
    compile: bool = option(False, "measure passes compiled too; takes minutes a batch size")
    rounds: int = option(3, "in which all ways take turns; the best counts", low=1)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    @classmethod
    def from_parameters(cls, values: dict) -> "BenchmarkConfig":
        """A resolved config from a notebook's parameters.

        Raises:
            LabError: unknown names, wrong types or impossible values, all told at once.
        """
        return build(cls, values).resolve()

    def resolve(self) -> "BenchmarkConfig":
        """The same with a prompt set and a name.

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
        config = dataclasses.replace(self, precisions=precisions, prompts=prompts)
        if config.run_name is None:
            stem = f"benchmark-{Path(self.backbone).name}-{self.image_size}"
            name = f"{stem}-{json_hash(config.numbers())[:8]}"
            config = dataclasses.replace(config, run_name=name)
        check_name(config.run_name)
        return config

    def numbers(self) -> dict:
        """The parameters that the results depend on, as stored in ``config.json``."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "run_name"}
