"""Pictures drawn from a diffusion model: what it believes a prompt looks like."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ..core.device import Compute, choose_compute
from .presets import find_preset
from .sources import explain


def generate_images(
    source: Path | str = "tiny",
    prompts: Sequence[str] = ("",),
    seed: int = 0,
    steps: int = 30,
    guidance: float = 3.0,
    compute: Compute | None = None,
) -> list[Image.Image]:
    """A picture a prompt, by diffusers' ``StableDiffusionPipeline``.

    Args:
        source: a preset's name, a hub id or a folder in diffusers layout.
        seed: of the noise; all prompts start from the same, so that only the text differs.
        steps: of the scheduler. guidance: weight of the text, 1 is none.

    Raises:
        LabError: the source cannot be loaded.
    """
    from diffusers import StableDiffusionPipeline

    preset = find_preset(str(source))
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            preset.source, revision=preset.revision, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise explain(error, preset.source, preset.revision) from error
    pipeline.to((compute or choose_compute()).device)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    return pipeline(
        list(prompts), num_inference_steps=steps, guidance_scale=guidance, generator=generators
    ).images
