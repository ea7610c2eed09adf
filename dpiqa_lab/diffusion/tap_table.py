"""Shapes, sizes and times of a backbone's taps."""

import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch

from ..core.device import synchronize
from .attention_maps import attention_maps_of
from .backbone import Backbone
from .prompts import prompt_texts
from .taps import FeatureTaps, block_taps


@torch.no_grad()
def describe_taps(
    backbone: Backbone,
    image_size: int = 512,
    taps: Sequence[str] | None = None,
    prompts: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Shapes, sizes and times of taps, from two passes over a grey latent.

    Args:
        image_size: side in pixels.
        taps: module paths of the U-Net, or of its attention maps (``attention_maps.map_taps``);
            ``None`` is its down, mid and up blocks.
        prompts: prompt set; ``None`` is the backbone's default.

    Returns:
        A row per tap: tap, channels, height, width, stride (image pixels per position), bytes per
        image in float32, and seconds from the start of a pass over one image to this tap, in
        float32 on the backbone's device.
    """
    backbone.check_size(image_size, image_size)
    unet = backbone.unet
    taps = block_taps(unet) if taps is None else taps
    side = image_size // backbone.downscale
    latents = torch.zeros(1, unet.config.in_channels, side, side, device=backbone.device)
    # Neither shapes nor times depend on the prompts' content: zeros save the text encoder.
    count = len(prompt_texts(prompts or backbone.default_prompts))
    zeros = torch.zeros(1, count, unet.config.cross_attention_dim, device=backbone.device)
    with attention_maps_of(backbone, taps, prompts):
        with FeatureTaps(unet, taps, stop=True) as features:
            backbone.denoise(latents, prompts=zeros)
        seconds = _seconds(backbone, list(features), latents, zeros)
    rows = []
    for tap in features:
        shape = features[tap].shape
        # Blocks give (1, channels, height, width), attentions (1, positions, channels).
        channels, height, width = shape[1:] if len(shape) == 4 else (shape[2], shape[1], 1)
        rows.append(
            {
                "tap": tap,
                "channels": channels,
                "height": height,
                "width": width,
                "stride": image_size // height if len(shape) == 4 else None,
                "bytes per image": 4 * features[tap].numel(),
                "seconds": seconds[tap],
            }
        )
    return pd.DataFrame(rows)


def _seconds(
    backbone: Backbone, taps: Sequence[str], latents: torch.Tensor, prompts: torch.Tensor
) -> dict[str, float]:
    """Time from the start of a second pass to each tap; the first one has warmed up."""
    moments: dict[str, float] = {}

    def now() -> float:
        synchronize(backbone.device)
        return time.perf_counter()

    def note(tap: str) -> Callable[..., None]:
        return lambda *_: moments.__setitem__(tap, now())

    handles = [backbone.unet.get_submodule(tap).register_forward_hook(note(tap)) for tap in taps]
    try:
        start = now()
        with FeatureTaps(backbone.unet, taps, stop=True, copy=False):
            backbone.denoise(latents, prompts=prompts)
    finally:
        for handle in handles:
            handle.remove()
    return {tap: round(moment - start, 4) for tap, moment in moments.items()}
