"""Image adapter: restores details that the VAE loses (paper section 3.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import T2IAdapter
from diffusers.models.adapter import FullAdapter

from ..core.errors import LabError
from ..nn.matmul_conv2d import use_small_maps


class ImageAdapter(FullAdapter):
    """T2I-Adapter's "full" layout, trained from scratch.

    The image (b, 3, h, w) in [0,1] is unshuffled by ``downscale`` and passes 4 stages of 2
    residual blocks; the 4 outputs, at h/8 to h/64 of SD 1.5, are added inside the U-Net's down
    blocks.

    Args:
        channels: widths of the U-Net's down blocks (320, 640, 1280, 1280: 77.37 M parameters).
        downscale: pixels a latent.
    """

    def __init__(self, channels: Sequence[int], downscale: int = 8) -> None:
        super().__init__(3, list(channels), num_res_blocks=2, downscale_factor=downscale)
        use_small_maps(self)


def as_t2i(adapter: ImageAdapter) -> T2IAdapter:
    """The same network as diffusers saves and loads it; it shares the weights."""
    stages: Any = adapter.body
    whole: Any = T2IAdapter(
        3, [len(stage.resnets[-1].block2.weight) for stage in stages],
        num_res_blocks=2, downscale_factor=adapter.unshuffle.downscale_factor,
        adapter_type="full_adapter",
    )  # fmt: skip
    whole.adapter.load_state_dict(adapter.state_dict(), assign=True)
    return whole


def load_image_adapter(folder: Path | str) -> dict[str, torch.Tensor]:
    """Weights (float32) of the adapter saved in ``folder/image_adapter``.

    Raises:
        LabError: there is none, or its files are damaged.
    """
    place = Path(folder).expanduser() / "image_adapter"
    try:
        found: Any = T2IAdapter.from_pretrained(place, local_files_only=True, use_safetensors=True)
    except Exception as error:
        raise LabError(f"no image adapter can be read from {place}: {error}") from error
    return found.float().adapter.state_dict()


def has_image_adapter(folder: Path | str) -> bool:
    """Whether a backbone's folder holds an image adapter of its own."""
    return (Path(folder).expanduser() / "image_adapter" / "config.json").is_file()
