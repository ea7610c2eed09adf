"""Activation maps of a few images, before pooling; not cached."""

from collections.abc import Sequence
from math import isqrt

import torch

from ..core.device import Compute, choose_compute, exact
from ..datasets.dataset import QualityDataset
from ..diffusion.attention_maps import attention_maps_of
from ..diffusion.backbone import Backbone
from ..diffusion.latents import content_noise
from ..diffusion.prompts import FACTORS
from ..diffusion.taps import FeatureTaps


def activation_maps(
    backbone: Backbone,
    dataset: QualityDataset,
    positions: Sequence[int],
    timestep: int,
    taps: Sequence[str],
    prompts: str | Sequence[str] | None = None,
    noise_seed: int | None = None,
    factors: Sequence[str] = FACTORS,
    compute: Compute | None = None,
) -> dict[str, torch.Tensor]:
    """The maps that ``extract_features`` pools.

    Args:
        dataset: with an ``image_size``. positions: indices of its images, processed in one pass.

    Returns:
        For each tap (n, channels, height, width) float32 on the CPU; the channels of an attention
        map are the factors.
    """
    images = torch.stack([dataset[i]["image"] for i in positions])
    hashes = list(dataset.table["hash"].iloc[list(positions)])
    return image_maps(
        backbone, images, hashes, timestep, taps, prompts, noise_seed, factors, compute
    )


@torch.no_grad()
def image_maps(
    backbone: Backbone,
    images: torch.Tensor,
    hashes: Sequence[str],
    timestep: int,
    taps: Sequence[str],
    prompts: str | Sequence[str] | None = None,
    noise_seed: int | None = None,
    factors: Sequence[str] = FACTORS,
    compute: Compute | None = None,
) -> dict[str, torch.Tensor]:
    """``activation_maps`` of images (n, 3, h, w) in [0,1] outside a dataset.

    ``hashes`` of the image files seed the noise, where ``noise_seed`` is set.
    """
    compute = compute or choose_compute()
    backbone.to(compute.device)
    with exact():  # as ``dataset_latents`` are
        latents = backbone.encode(images)
    if noise_seed is not None:
        noise = [content_noise(h, noise_seed, latents.shape[1:]) for h in hashes]
        latents = backbone.add_noise(latents, torch.stack(noise).to(latents), timestep)
    with (
        compute.autocast(),
        attention_maps_of(backbone, taps, prompts, factors),
        FeatureTaps(backbone.unet, taps, stop=True) as outputs,
    ):
        backbone.denoise(latents, timestep, prompts)
    return {tap: _maps(outputs[tap].float().cpu()) for tap in taps}


def _maps(output: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) unchanged; a sequence (n, positions, c) of a square image as a map."""
    if output.ndim == 4:
        return output
    return output.transpose(1, 2).unflatten(2, (isqrt(output.shape[1]), -1))
