"""Image adapter: carries what the VAE drops past it (paper section 3.3)."""

from collections.abc import Sequence

from diffusers.models.adapter import FullAdapter


class ImageAdapter(FullAdapter):
    """T2I-Adapter's "full" layout, trained from scratch.

    The photograph (b, 3, h, w) in [0,1] is unshuffled by ``downscale`` and passes 4 stages of 2
    residual blocks; the 4 outputs, at h/8 to h/64 of SD 1.5, are added inside the U-Net's down
    blocks.

    Args:
        channels: widths of the U-Net's down blocks (320, 640, 1280, 1280: 77.37 M parameters).
        downscale: pixels a latent.
    """

    def __init__(self, channels: Sequence[int], downscale: int = 8):
        super().__init__(3, list(channels), num_res_blocks=2, downscale_factor=downscale)
