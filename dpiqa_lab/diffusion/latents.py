"""Latents of the frozen VAE for a whole dataset, encoded once and cached."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from ..core.cache import RowCache
from ..core.device import Compute
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.dataset import QualityDataset
from ..datasets.image_set import ImageSet
from ..datasets.images import unit_range
from ..datasets.pixels import Pixels
from .backbone import Backbone


def dataset_latents(
    backbone: Backbone,
    dataset: QualityDataset | ImageSet,
    compute: Compute,
    vae_input: str = "[-1,1]",
    sample_seed: int | None = None,
    workers: int = 0,
    batch_size: int = 8,
    cache_dir: Path | str | None = None,
) -> torch.Tensor:
    """Latents of every image, in the dataset's order, from the cache where present.

    Args:
        dataset: with an ``image_size``.
        cache_dir: ``None`` is the lab's own.
        sample_seed: sample the posterior by this seed and each image's content, so that neither
            order nor batch size matters; ``None`` takes its mean.

    Returns:
        (n, 4, image_size/8, image_size/8) float32 on the CPU.
    """
    size = dataset.image_size
    if size is None:
        raise LabError("latents need photographs of one size: load_dataset(..., image_size=512).")
    backbone.check_size(size, size)
    backbone.to(compute.device)
    key = {
        "vae": backbone.vae_hash(),
        "vae_input": vae_input,
        "resize": f"antialiased bilinear to {size}x{size}",
        "sample_seed": sample_seed,
        "dtype": "float32",
    }
    hashes = list(dataset.table["hash"])
    side = size // backbone.downscale
    shape = (backbone.vae.config.latent_channels, side, side)

    def encode_missing(batches: list[list[int]]) -> Iterable:
        """Batches of pixels at the missing positions, read ahead."""
        loader = DataLoader(Pixels(dataset), batch_sampler=batches, num_workers=workers)
        return progress_bar(zip(batches, loader, strict=True), "encoding latents", len(batches))

    def encode(item: tuple) -> dict[str, torch.Tensor]:
        positions, (pixels, _, _) = item
        images = unit_range(pixels, compute.device)
        noise = None
        if sample_seed is not None:
            noise = torch.stack([content_noise(hashes[i], sample_seed, shape) for i in positions])
        return {"latents": backbone.encode(images, vae_input, noise)}

    rows = RowCache("latents", key, cache_dir).rows(hashes, encode, batch_size, encode_missing)
    return rows["latents"]


def content_noise(file_hash: str, seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise for an image, by its hash: the same in any order and batch."""
    digest = hashlib.sha256(f"{seed} {file_hash}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.randn(shape, generator=generator)
