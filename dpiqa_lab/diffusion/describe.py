"""What the taps of a backbone give, before anything is extracted."""

from collections.abc import Sequence

import pandas as pd
import torch

from .backbone import Backbone
from .taps import FeatureTaps


@torch.no_grad()
def describe_taps(
    backbone: Backbone, image_size: int = 512, taps: Sequence[str] | None = None
) -> pd.DataFrame:
    """Shapes and sizes, found by one pass over a grey latent.

    Args:
        image_size: side in pixels.
        taps: module paths of the U-Net; ``None`` is its down, mid and up blocks.

    Returns:
        A row a tap: tap, channels, height, width, stride (image pixels a position), bytes an image
        in float32.
    """
    backbone.check_size(image_size, image_size)
    unet = backbone.unet
    if taps is None:
        taps = [f"down_blocks.{i}" for i in range(len(unet.down_blocks))]
        taps += ["mid_block", *(f"up_blocks.{i}" for i in range(len(unet.up_blocks)))]
    side = image_size // backbone.downscale
    latents = torch.zeros(1, unet.config.in_channels, side, side, device=backbone.device)
    # Shapes do not depend on the prompts: one empty vector saves embedding a whole set.
    prompts = torch.zeros(1, 1, unet.config.cross_attention_dim, device=backbone.device)
    with FeatureTaps(unet, taps, stop=True) as features:
        backbone.denoise(latents, prompts=prompts)
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
            }
        )
    return pd.DataFrame(rows)
