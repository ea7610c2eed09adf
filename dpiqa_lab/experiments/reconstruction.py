"""What a VAE keeps of a photograph, against the least that as many numbers can keep."""

import torch

from ..diffusion.backbone import Backbone


def reconstruct(backbone: Backbone, images: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
    """Images (b, 3, h, w) in [0,1] through the VAE and back, on the CPU."""
    parts = images.split(batch_size)
    return torch.cat([backbone.decode(backbone.encode(part)).cpu() for part in parts])


def linear_reconstruction(images: torch.Tensor, side: int = 8, numbers: int = 4) -> torch.Tensor:
    """The same through the best linear projection of ``side`` x ``side`` patches to ``numbers``.

    The projection is fitted on these images (principal components), so no other linear one does
    better on them: a VAE with as many latents has to.
    """
    from sklearn.decomposition import PCA

    b, c, h, w = images.shape
    grid = images.double().reshape(b, c, h // side, side, w // side, side)
    patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, c * side * side).numpy()
    model = PCA(numbers, svd_solver="covariance_eigh").fit(patches)
    restored = torch.from_numpy(model.inverse_transform(model.transform(patches)))
    grid = restored.reshape(b, h // side, w // side, c, side, side).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, c, h, w).to(images.dtype)
