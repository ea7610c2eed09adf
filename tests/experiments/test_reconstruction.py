import numpy as np
import pytest
import torch

from dpiqa_lab.experiments.prior_vae import linear_reconstruction
from dpiqa_lab.metrics import psnr


def test_psnr_by_hand():
    images = torch.zeros(2, 3, 4, 4)
    restored = images + torch.tensor([0.1, 1.5]).view(2, 1, 1, 1)  # clipped to 1
    assert psnr(restored, images) == pytest.approx([20, 0], abs=1e-4)


def test_linear_round_trip_is_the_best_of_its_rank():
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    restored = linear_reconstruction(images)
    patches = [
        image[:, y : y + 8, x : x + 8].flatten().double().numpy()
        for image in images
        for y in (0, 8)
        for x in (0, 8, 16)
    ]
    centred = np.array(patches) - np.mean(patches, 0)
    left = (np.linalg.svd(centred, compute_uv=False)[4:] ** 2).sum()  # Eckart and Young
    assert (restored - images).double().square().sum().item() == pytest.approx(left, rel=1e-4)
