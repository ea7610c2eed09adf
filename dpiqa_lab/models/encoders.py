"""Frozen pretrained networks as encoders of pooled features.

They are the control for every claim on the diffusion prior, and the initialization of a student.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..core.cache import RowCache
from ..core.device import choose_compute
from ..core.files import tensors_hash
from ..core.progress import progress_bar
from ..datasets.dataset_access import content_of
from ..datasets.pixels import pixels_of
from .pooled_regressor import pooled
from .trunks import find_trunk, load_trunk, normalised, stage_channels_of, trunk_stages

# Small batches need little memory, and cost little time at 512 by 512.
_BATCH = 4


class Encoder(nn.Module):
    """A frozen trunk; its features are the statistics of all its stages.

    Args:
        trunk: a name of ``models.trunks``.
        weights: see ``trunks.load_trunk``; "none" keeps random ones, drawn by ``seed``.
        image_size: side of the square that images are resized to, in pixels.

    Attributes:
        width: number of features per image: a mean and a log-deviation of every channel of
            every stage, 4,128 of "efficientnet_lite0".

    Raises:
        LabError: no such trunk, or its weights cannot be had.
    """

    def __init__(
        self,
        trunk: str = "efficientnet_lite0",
        weights: str = "imagenet",
        image_size: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        kind = find_trunk(trunk)
        self.pixels = kind.pixels
        self.image_size = image_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = kind.build()
        if weights != "none":
            load_trunk(self.trunk, trunk, weights)
        self.requires_grad_(False).eval()
        self.width = 2 * sum(stage_channels_of(self.trunk))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (b, 3, h, w) in [0,1] to features (b, ``width``): all means, then all deviations.

        The logarithms of the deviations, see ``pooled_regressor.pooled``.
        """
        return pooled(trunk_stages(self.trunk, normalised(images, self.pixels)))


@torch.no_grad()
def encoder_features(
    encoder: Encoder,
    dataset: Sequence[dict],
    device: str = "auto",
    workers: int = 0,
    cache_dir: Path | str | None = None,
) -> np.ndarray:
    """Features (n, ``encoder.width``) float64 of images, from the cache where present.

    Args:
        dataset: gives ``{"image": (3, H, W) in [0,1], "mos": float, ...}`` by index; images
            are resized to ``encoder.image_size``.
        device: see ``choose_compute``; float32 on every device.
        workers: processes that read photographs beside the computation.
        cache_dir: ``None`` is the lab's own.

    Raises:
        LabError: an unreadable photograph.
    """
    compute = choose_compute(device, "float32")
    key = {
        "weights": tensors_hash(encoder.state_dict()),
        "pixels": encoder.pixels,
        "image_size": encoder.image_size,
    }
    encoder = encoder.to(compute.device, memory_format=torch.channels_last).eval()
    items = pixels_of(dataset, encoder.image_size)

    def batches_of(batches: list[list[int]]) -> Iterable:
        missing = [i for batch in batches for i in batch]
        loader = DataLoader(Subset(items, missing), batch_size=_BATCH, num_workers=workers)
        return progress_bar(loader, "encoder's features", len(batches))

    def features(batch: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        images = batch[0].to(compute.device).float().div(255)
        return {"features": encoder(images.contiguous(memory_format=torch.channels_last))}

    rows = RowCache("encoder", key, cache_dir).rows(
        content_of(dataset), features, _BATCH, batches_of
    )
    return rows["features"].double().numpy()
