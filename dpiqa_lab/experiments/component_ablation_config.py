"""Configuration of notebook 08."""

import dataclasses

from ..core.config import configuration, option
from ..core.errors import LabError
from ..core.files import json_hash
from ..training.teacher_config import TrainConfig

# Changed parameters of each variant. "random weights": neither U-Net nor image adapter is
# pretrained; "cosine transform": the image adapter starts from a cosine transform.
VARIANTS: dict[str, dict] = {
    "whole": {},
    "random weights": {"random_weights": True, "adapter_start": "torch"},
    "cosine transform": {"random_weights": True, "adapter_start": "frequencies"},
    "no prompts": {"prompts": "none"},
    "no text adapter": {"text_adapter": False},
    "no image adapter": {"image_adapter": False},
    "frozen U-Net": {"trainable": "adapters"},
    "3 up blocks": {"up_blocks": 3},
    "2 up blocks": {"up_blocks": 2},
    "1 up block": {"up_blocks": 1},
    "patches": {"patches": 2},
}


@configuration
class ComponentsConfig(TrainConfig):
    """Trainings of a teacher with each component removed in turn, from several seeds."""

    epochs: int = option(1, "passes over the train images", low=1)
    validate_every: int = option(12, "steps between validations and checkpoints", low=1)

    variants: tuple[str, ...] | None = option(
        None, "variants, compared with the first; None: all", VARIANTS
    )
    seeds: int = option(3, "trainings per variant, with seeds from seed on", low=1, high=100)
    train_fraction: float = option(
        0.1, "fraction of train and val in each training, by its seed", low=0.0, high=1.0
    )
    max_test_images: int | None = option(
        None, "test images, the same in all trainings; None: all", low=3
    )

    def resolve(self) -> "ComponentsConfig":
        """See ``TrainConfig``."""
        config = (
            self
            if self.variants is not None
            else dataclasses.replace(self, variants=tuple(VARIANTS))
        )
        if not config.variants:
            raise LabError(f"variants is empty: give some of {', '.join(VARIANTS)}.")
        if not config.train_fraction:
            raise LabError("train_fraction must be above 0.")
        return super(ComponentsConfig, config).resolve()

    def training(self, variant: str, seed: int) -> TrainConfig:
        """Training of one variant and seed; its name does not depend on the others."""
        # max_test_images are drawn by the first seed.
        drawn_by = None if self.max_test_images is None else self.seed
        shared = {
            k: v for k, v in self.identity().items() if k not in ("variants", "seeds", "seed")
        }
        named = json_hash([shared, drawn_by])[:8]
        name = f"{self.dataset}-{named}-{variant.replace(' ', '-')}-s{seed}"
        fields = [field.name for field in dataclasses.fields(TrainConfig)]
        values = {name: getattr(self, name) for name in fields}
        own = {**VARIANTS[variant], "seed": seed, "run_name": name}
        return TrainConfig(**{**values, **own}).resolve()
