"""Convolutions of small maps by large weights: torch's numbers by another way."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.upsampling import Upsample2D
from torch import nn

from dpiqa_lab.nn import matmul_conv2d
from dpiqa_lab.nn.matmul_conv2d import SmallMapConv2d, use_small_maps


@pytest.fixture(autouse=True)
def any_size_is_large(monkeypatch):
    monkeypatch.setattr(matmul_conv2d, "_WEIGHTS", 1)


def _layer(*shape, **options):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(*shape, **options))
    use_small_maps(layer)
    return layer[0]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"padding": 1}, (1, 6, 8, 8)),
        ({"padding": 1}, (3, 6, 5, 9)),
        ({"padding": 1, "stride": 2}, (2, 6, 16, 15)),
        ({"padding": (0, 2), "stride": (3, 1)}, (2, 6, 10, 4)),
        ({"padding": 1}, (1, 6, 16, 16)),
    ],
)
def test_outputs_and_gradients_are_torch_s_own(options, shape, monkeypatch):
    layer = _layer(6, 5, 3, **options)
    assert type(layer) is SmallMapConv2d
    x = torch.randn(shape, requires_grad=True)
    expected = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
    # That it is the product which answers, not torch's convolution.
    monkeypatch.setattr(F, "conv2d", None)
    found = layer(x)
    assert torch.allclose(found, expected, atol=1e-5)
    seen, wanted = torch.randn_like(expected), (x, layer.weight, layer.bias)
    for ours, torchs in zip(
        torch.autograd.grad(found, wanted, seen), torch.autograd.grad(expected, wanted, seen),
        strict=True,
    ):  # fmt: skip
        assert torch.allclose(ours, torchs, atol=1e-4)


def test_large_maps_and_other_types_are_left_to_torch(monkeypatch):
    layer = _layer(6, 5, 3, padding=1)
    monkeypatch.setattr(torch, "addmm", None)
    with pytest.raises(TypeError):
        layer(torch.randn(1, 6, 8, 8))
    for x in (torch.randn(1, 6, 17, 16), torch.randn(5, 6, 8, 8), torch.randn(6, 8, 8)):
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 6, 8, 8)).dtype == torch.bfloat16
    double = layer.double()(torch.randn(1, 6, 8, 8).double())
    assert double.dtype == torch.float64


def test_other_convolutions_are_left_alone():
    for options in (
        {"kernel_size": 1}, {"kernel_size": 3, "groups": 2}, {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "bias": False}, {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ):  # fmt: skip
        assert type(_layer(4, 4, **options)) is nn.Conv2d


def test_checkpointed_gradients_are_the_same():
    from torch.utils.checkpoint import checkpoint

    layer, x = _layer(6, 5, 3, padding=1), torch.randn(1, 6, 8, 8)
    layer(x).square().sum().backward()
    plain, layer.weight.grad = layer.weight.grad, None
    checkpoint(layer, x, use_reentrant=False).square().sum().backward()
    assert torch.equal(layer.weight.grad, plain)


def test_all_of_these_layers_compile_in_one_piece():
    from dpiqa_lab.nn.resized_conv2d import ResizedConv2d
    from dpiqa_lab.nn.tensor_memo import memoize_tensors
    from dpiqa_lab.nn.upsampling import FoldedUpsample2D, fold_upsampling

    upsampling = nn.Sequential(Upsample2D(6, use_conv=True))
    fold_upsampling(upsampling)
    assert type(upsampling[0]) is FoldedUpsample2D
    x = torch.randn(2, 6, 4, 4)
    for layer in (_layer(6, 5, 3, padding=1), ResizedConv2d(6, 5, 16), upsampling):
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        with torch.no_grad(), memoize_tensors():
            assert torch.allclose(compiled(x), layer(x), atol=1e-5)
