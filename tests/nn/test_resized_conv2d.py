"""A convolution of a resized map, whatever comes first."""

import pytest
import torch
import torch.nn.functional as F

from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.nn.resized_conv2d import ResizedConv2d, resizing
from dpiqa_lab.nn.tensor_memo import memoize_tensors


def _by_torch(layer, x):
    resized = F.interpolate(x, (layer.size, layer.size), mode="bicubic", align_corners=False)
    return F.conv2d(resized, layer.weight, layer.bias, padding=1)


@pytest.mark.parametrize("mode", ["bicubic", "nearest-exact"])
def test_resizing_by_matrices_is_torch_s_own(mode):
    x = torch.randn(2, 3, 16, 40)
    rows, columns = (resizing(n, 64, mode, x.device, x.dtype) for n in (16, 40))
    options = {"align_corners": False} if mode == "bicubic" else {}
    expected = F.interpolate(x, (64, 64), mode=mode, **options)
    assert torch.allclose(rows @ x @ columns.T, expected, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [(4, 4), (1, 1), (8, 8), (2, 30), (16, 4), (5, 12), (16, 16), (9, 20), (40, 24)]
)
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_and_gradients_are_torch_s_own(shape, batch):
    torch.manual_seed(0)
    layer = ResizedConv2d(6, 5, 16)
    x = torch.randn(batch, 6, *shape, requires_grad=True)
    found, expected = layer(x), _by_torch(layer, x)
    assert found.shape == (batch, 5, 16, 16)
    assert torch.allclose(found, expected, atol=1e-5)
    seen = torch.randn_like(expected)
    wanted = (x, layer.weight, layer.bias)
    for ours, torchs in zip(
        torch.autograd.grad(found, wanted, seen), torch.autograd.grad(expected, wanted, seen),
        strict=True,
    ):  # fmt: skip
        assert torch.allclose(ours, torchs, atol=2e-4)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected, atol=1e-5)


def test_new_weights_are_seen_at_once():
    torch.manual_seed(0)
    layer, x = ResizedConv2d(6, 5, 16), torch.randn(1, 6, 4, 4)
    with torch.no_grad(), memoize_tensors():
        layer(x)
        layer.weight.mul_(-3)
        assert torch.allclose(layer(x), _by_torch(layer, x), atol=1e-5)
        layer.load_state_dict(ResizedConv2d(6, 5, 16).state_dict())
        assert torch.allclose(layer(x), _by_torch(layer, x), atol=1e-5)


@pytest.mark.parametrize(("precision", "close"), [("bfloat16", 0.02), ("int8", 0.02)])
def test_other_precisions_are_near(precision, close):
    torch.manual_seed(0)
    layer, x = ResizedConv2d(64, 48, 32), torch.randn(2, 64, 8, 8)
    with torch.no_grad():
        expected = _by_torch(layer, x)
        with choose_compute("cpu", precision).autocast():
            found = layer(x).float()
    off = (found - expected).norm() / expected.norm()
    assert 1e-4 < off < close
