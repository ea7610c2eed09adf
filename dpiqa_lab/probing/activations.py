"""Where in a photograph a tap responds: raw maps of a few photographs, never kept on disk."""

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
    """What ``extract_features`` pools, before it is pooled.

    Args:
        dataset: with an ``image_size``. positions: its photographs, few enough for one pass.

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
    """As ``activation_maps``, of images (n, 3, h, w) in [0,1] that are in no dataset.

    ``hashes``: of the photographs whose noise they get, where there is noise.
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
    """(n, c, h, w) as it is; a sequence (n, positions, c) of a square photograph as a map."""
    if output.ndim == 4:
        return output
    return output.transpose(1, 2).unflatten(2, (isqrt(output.shape[1]), -1))
