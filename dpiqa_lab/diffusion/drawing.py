"""Pictures drawn from a diffusion model: what it believes a prompt looks like."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from .presets import PRESETS


def draw(
    source: Path | str = "tiny",
    prompts: Sequence[str] = ("",),
    seed: int = 0,
    steps: int = 30,
    guidance: float = 3.0,
) -> list[Image.Image]:
    """A picture a prompt, by diffusers' ``StableDiffusionPipeline``.

    Args:
        source: a preset's name, a hub id or a folder in diffusers layout.
        seed: of the noise; all prompts start from the same, so that only the text differs.
        steps: of the scheduler. guidance: weight of the text, 1 is none.
    """
    from diffusers import StableDiffusionPipeline

    preset = PRESETS.get(str(source))
    pipeline = StableDiffusionPipeline.from_pretrained(
        preset.source if preset else str(source),
        revision=preset and preset.revision,
        torch_dtype=torch.float32,
    )
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    return pipeline(
        list(prompts), num_inference_steps=steps, guidance_scale=guidance, generator=generators
    ).images
