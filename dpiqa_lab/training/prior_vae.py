"""The tiny prior's VAE: what the fit loop needs to train it."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ..core.device import Compute
from ..datasets.views import Views
from ..metrics import psnr
from ..models.trainable import Trainable
from .loop import Task
from .prior_config import PriorConfig

# Keeps the latents' channels uncorrelated, centred and of unit variance, softly: MSE alone leaves
# them free, and the decoder (TAESD's) takes only what lies within three deviations.
_MOMENTS = 0.005


class PriorVae(Trainable):
    """An ``AutoencoderTiny`` as one module from images to images and latents."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        # On a CPU a step takes 0.64 of the time in this layout in float32, 0.80 in bfloat16.
        self.vae = vae.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, 3, h, w) in [-1,1] to the same again and latents (b, 4, h/8, w/8)."""
        latents = self.vae.encode(images).latents
        return self.vae.decode(latents).sample, latents


class VaeTask(Task):
    """Squared error on random crops of the views; the goal is the PSNR on those held out."""

    goal = "psnr"

    def __init__(self, network: PriorVae, views: Views, config: PriorConfig, compute: Compute):
        self.network = network
        self.views = views
        self.config = config
        self.compute = compute
        self.train = views.positions("train")
        self.held_out = views.positions("val")[:: config.views][:64]

    def batches(self, epoch: int, start: int) -> Iterator[list]:
        """See ``loop.Task``; a step's crops follow from the seed and its number alone."""
        size, side = self.config.vae_crop, self.views.pixels.shape[1]
        for step in range(start, self.config.vae_steps):
            rng = np.random.default_rng([self.config.seed, 1, step])
            rows = rng.choice(self.train, self.config.vae_batch)
            places = rng.integers(0, side - size + 1, (len(rows), 2))
            crops = [
                self.views.pixels[row, y : y + size, x : x + size]
                for row, (y, x) in zip(rows, places, strict=True)
            ]
            yield [[np.stack(crops)]]

    def loss(self, model: nn.Module, batch) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        images = to_images(batch[0], self.compute)
        restored, latents = model(images)
        error = (restored - images).square().mean()
        return error + _MOMENTS * _moments(latents.float()), len(images)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        values = []
        for rows in np.array_split(self.held_out, max(1, len(self.held_out) // 8)):
            images = to_images(self.views.pixels[rows], self.compute)
            restored, _ = model(images)
            values.append(psnr((restored.float() + 1) / 2, (images + 1) / 2))
        return {"psnr": float(np.concatenate(values).mean())}


def to_images(pixels: np.ndarray, compute: Compute) -> torch.Tensor:
    """(b, h, w, 3) uint8 to (b, 3, h, w) in [-1,1]."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).to(compute.device)
    return values.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _moments(latents: torch.Tensor) -> torch.Tensor:
    flat = latents.transpose(0, 1).flatten(1)
    mean = flat.mean(1)
    covariance = (flat - mean[:, None]) @ (flat - mean[:, None]).T / flat.shape[1]
    return mean.square().sum() + (covariance - torch.eye(len(mean)).to(flat)).square().sum()
