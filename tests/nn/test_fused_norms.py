"""Fused layers give what the separate ones give, and are gone after the block."""

import pytest
import torch
from torch import nn

from dpiqa_lab.models.efficientnet import EfficientNet
from dpiqa_lab.nn.compiling import fuse_norms
from tests.support.networks import stir


@torch.no_grad()
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_tiny"])
def test_fused_features_are_the_same(name):
    trunk = stir(EfficientNet(name)).eval().double()
    images = torch.rand(2, 3, 64, 97, dtype=torch.float64)
    expected = trunk(images)
    seen = []
    norms = [layer for layer in trunk.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(lambda *call: seen.append(call[0]))
    with fuse_norms(trunk):
        found = trunk(images)
        assert not seen  # no norm has run
    assert torch.allclose(found, expected, atol=1e-9 * expected.abs().max())
    assert torch.equal(trunk(images), expected)
    assert len(seen) == len(norms)


def test_a_network_in_training_is_left_alone():
    layer = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    with fuse_norms(layer):
        layer(torch.rand(4, 3, 5, 5))
    assert layer[1].num_batches_tracked == 1
