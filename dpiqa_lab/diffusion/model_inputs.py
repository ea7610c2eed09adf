"""The pretrained models that go into a run, by source, revision and hash: part of its identity."""

from ..core.files import json_hash
from .presets import find_preset
from .pretrained import ROLES, pretrained_parts
from .prompts import prompt_texts


def backbone_inputs(
    backbone: str,
    prompts: str | None = None,
    random_weights: bool = False,
    revision: str | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """A backbone's U-Net, VAE and text encoder, and the texts of its prompts.

    Args:
        prompts: prompt set or text file; ``None`` is the backbone's default set.
        seed: of random weights.
    """
    prompts = prompts or find_preset(backbone).prompts
    texts = {"source": prompts, "sha256": json_hash(prompt_texts(prompts))}
    parts = pretrained_parts(backbone, random_weights, revision, seed)
    return {**{ROLES[part]: found for part, found in parts.items()}, "prompts": texts}
