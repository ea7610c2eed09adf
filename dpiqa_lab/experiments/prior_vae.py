"""Training of the tiny prior's VAE, and reconstruction quality."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.device import Compute
from ..datasets.prior_views import Views
from ..diffusion.backbone import Backbone
from ..metrics import psnr
from ..models.trainable import Trainable
from ..training.ema import ModelEma
from ..training.loop import Task
from .prior_config import PriorConfig

# Views whose 8x8 patches give the principal components.
_FITTED = 256

# Decay of the moving average of the decoder's weights.
_DECODER_EMA = 0.995

# Squared error of a crop, of pixels in [-1,1], below which errors do not count: 46 dB.
_NO_ERROR = 1e-4


class PriorVae(Trainable):
    """An ``AutoencoderTiny`` as one module from images to images and latents."""

    def __init__(self, vae: Any) -> None:  # noqa: ANN401 - diffusers' classes lack types
        super().__init__()
        # Faster on a CPU.
        self.vae = vae.to(memory_format=torch.channels_last)

    def forward(
        self, images: torch.Tensor, code: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, 3, h, w) in [-1,1] to reconstructions and latents (b, 4, h/8, w/8).

        If ``code`` is given, it is decoded instead of the latents.
        """
        latents = self.vae.encode(images).latents
        restored = self.vae.decode(latents if code is None else code).sample
        return restored.float(), latents.float()


class VaeTask(Task):
    """Squared error on random crops of the views; the goal is PSNR on held-out views.

    In the first ``vae_linear`` steps the encoder learns the principal components of 8x8 patches and
    the decoder reconstructs from them. Without this, colour is learnt over a thousand steps later.
    """

    goal = "psnr"

    def __init__(
        self, network: PriorVae, views: Views, config: PriorConfig, compute: Compute
    ) -> None:
        self.network = network
        self.views = views
        self.config = config
        self.compute = compute
        undamaged = (views.table["damage"] == "none").to_numpy()
        train = views.positions("train")
        clean = train[undamaged[train]]
        # Undistorted views have the finest detail, so they are sampled more often.
        self.train = np.concatenate([train, clean, clean])
        self.held_out = views.positions("val")[:: config.views][:64]
        self.fitted = clean[:_FITTED]

    @cached_property
    def components(self) -> nn.Conv2d:
        """Images to the first principal components of their 8x8 patches."""
        return _principal_components(self.views.pixels[self.fitted], self.compute)

    def batches(self, epoch: int, start: int) -> Iterator[list]:  # noqa: ARG002 - interface
        """See ``loop.Task``; a step's crops depend only on the seed and its number."""
        for step in range(start, self.config.vae_steps):
            rng = np.random.default_rng([self.config.seed, 1, step])
            crops, rows = self._crops(rng)
            yield [[crops, step < self.config.vae_linear, rows]]

    def _crops(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Crops (b, h, w, 3) uint8, and the views they are of."""
        size, side = self.config.vae_crop, self.views.pixels.shape[1]
        rows = rng.choice(self.train, self.config.vae_batch)
        places = rng.integers(0, side - size + 1, (len(rows), 2))
        crops = [
            self.views.pixels[row, y : y + size, x : x + size]
            for row, (y, x) in zip(rows, places, strict=True)
        ]
        return np.stack(crops), rows

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        crops, linear, _ = batch
        images = to_images(crops, self.compute)
        target = self.components(images).float() if linear else None
        restored, latents = model(images, target)
        error = (restored - images).square().mean()
        if linear:
            error = error + 0.1 * (latents - target).square().mean()
        return error, len(images)

    def names(self, batch: Sequence) -> list[str]:
        """See ``loop.Task``."""
        return list(self.views.table["photograph"].iloc[batch[2]])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        values = []
        for rows in np.array_split(self.held_out, max(1, len(self.held_out) // 8)):
            images = to_images(self.views.pixels[rows], self.compute)
            restored, _ = model(images)
            values.append(psnr((restored + 1) / 2, (images + 1) / 2))
        return {"psnr": float(np.concatenate(values).mean())}


class DecoderTask(VaeTask):
    """Further training of the decoder; latents do not change.

    The loss is the mean over crops of the logarithm of the squared error, as PSNR is measured. The
    result is a moving average of the weights.
    """

    network: ModelEma

    def __init__(
        self, network: PriorVae, views: Views, config: PriorConfig, compute: Compute
    ) -> None:
        super().__init__(network, views, config, compute)
        network.vae.encoder.requires_grad_(False)
        self.network = ModelEma(network, _DECODER_EMA)

    def start(self) -> None:
        """See ``loop.Task``."""
        self.network.restart()

    def stepped(self) -> None:
        """See ``loop.Task``."""
        self.network.update()

    def kept(self) -> dict[str, torch.Tensor]:
        """See ``loop.Task``: of the whole VAE."""
        return self.network.average.state_dict()

    def batches(self, epoch: int, start: int) -> Iterator[list]:  # noqa: ARG002 - interface
        """See ``loop.Task``; a step's crops depend only on the seed and its number."""
        for step in range(start, self.config.decoder_steps):
            rng = np.random.default_rng([self.config.seed, 6, step])
            crops, rows = self._crops(rng)
            yield [[crops, False, rows]]

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        images = to_images(batch[0], self.compute)
        restored, _ = model(images)
        errors = (restored - images).square().mean((1, 2, 3))
        return (errors + _NO_ERROR).log().mean(), len(images)


def to_images(pixels: np.ndarray, compute: Compute) -> torch.Tensor:
    """(b, h, w, 3) uint8 to (b, 3, h, w) in [-1,1]."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).to(compute.device)
    return values.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _principal_components(pixels: np.ndarray, compute: Compute) -> nn.Conv2d:
    """8x8 patches of images (n, h, w, 3) to their first 4 components, of unit variance."""
    from sklearn.decomposition import PCA

    blocks = to_images(pixels, compute).cpu().unfold(2, 8, 8).unfold(3, 8, 8)
    patches = blocks.permute(0, 2, 3, 1, 4, 5).reshape(-1, 192).double().numpy()
    pca = PCA(4, whiten=True, svd_solver="covariance_eigh").fit(patches)
    weight = pca.components_ / np.sqrt(pca.explained_variance_)[:, None]
    layer = nn.Conv2d(3, 4, 8, stride=8)
    assert layer.bias is not None
    layer.weight.data = torch.from_numpy(weight).float().reshape(4, 3, 8, 8)
    layer.bias.data = torch.from_numpy(-weight @ pca.mean_).float()
    return layer.requires_grad_(False).to(compute.device)


def reconstruct(backbone: Backbone, images: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
    """Images (b, 3, h, w) in [0,1] through the VAE and back, on the CPU."""
    parts = images.split(batch_size)
    return torch.cat([backbone.decode(backbone.encode(part)).cpu() for part in parts])


def linear_reconstruction(images: torch.Tensor, side: int = 8, numbers: int = 4) -> torch.Tensor:
    """Reconstruction from the best linear projection of ``side`` x ``side`` patches to ``numbers``.

    The projection (principal components) is fitted to these images: an upper bound for linear
    codes of that size.
    """
    from sklearn.decomposition import PCA

    b, c, h, w = images.shape
    grid = images.double().reshape(b, c, h // side, side, w // side, side)
    patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, c * side * side).numpy()
    model = PCA(numbers, svd_solver="covariance_eigh").fit(patches)
    restored = torch.from_numpy(model.inverse_transform(model.transform(patches)))
    grid = restored.reshape(b, h // side, w // side, c, side, side).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, c, h, w).to(images.dtype)
