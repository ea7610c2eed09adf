"""Folded upsampling: diffusers' numbers by another way."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import nn

import dpiqa_lab as lab
from dpiqa_lab.nn.upsampling import DoublingConv2d, FoldedUpsample2D, fold_upsampling


@pytest.fixture
def both():
    torch.manual_seed(0)
    usual = Upsample2D(6, use_conv=True, out_channels=5)
    folded = Upsample2D(6, use_conv=True, out_channels=5)
    folded.load_state_dict(usual.state_dict())
    network = nn.Sequential(folded)
    fold_upsampling(network)
    folded = network[0]
    assert (type(folded), type(folded.conv)) == (FoldedUpsample2D, DoublingConv2d)
    return usual, folded


@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (2, 6, 4, 4), (3, 6, 5, 8)])
def test_outputs_and_gradients_are_diffusers_own(both, shape):
    x = torch.randn(shape, requires_grad=True)
    usual, folded = (layer(x) for layer in both)
    assert folded.shape == (shape[0], 5, 2 * shape[2], 2 * shape[3])
    assert torch.allclose(folded, usual, atol=1e-5)
    seen = torch.randn_like(usual)
    ours = torch.autograd.grad(folded, (x, *both[1].parameters()), seen)
    theirs = torch.autograd.grad(usual, (x, *both[0].parameters()), seen)
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(ours, theirs, strict=True))


def test_sizes_asked_for_and_bfloat16_are_left_to_diffusers(both):
    x = torch.randn(1, 6, 4, 4)
    usual, folded = both
    assert torch.equal(folded(x, (7, 9)), usual(x, (7, 9)))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(folded(x), usual(x))
    assert torch.equal(folded.conv(x), F.conv2d(x, folded.conv.weight, folded.conv.bias, padding=1))


def test_a_backbone_gives_what_diffusers_unet_does():
    tiny = lab.load_backbone("tiny")
    assert sum(isinstance(m, FoldedUpsample2D) for m in tiny.unet.modules()) == 3
    usual = UNet2DConditionModel.from_config(tiny.unet.config)
    usual.load_state_dict(tiny.unet.state_dict())
    latents, prompts = torch.randn(2, 4, 16, 24), tiny.embed_prompts()
    with torch.no_grad(), lab.FeatureTaps(tiny.unet, ["up_blocks.1.upsamplers.0.conv"]) as taps:
        found = tiny.denoise(latents, 1)
        expected = usual(latents, 1, prompts.expand(2, -1, -1)).sample
        assert taps["up_blocks.1.upsamplers.0.conv"].shape[2:] == (8, 12)
        # Sides that are no multiple of the deepest level's, which diffusers takes too.
        odd = torch.randn(1, 4, 12, 20)
        assert torch.allclose(tiny.denoise(odd, 1), usual(odd, 1, prompts).sample, atol=1e-4)
    assert torch.allclose(found, expected, atol=1e-4)
