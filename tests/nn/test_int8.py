"""Layers in eight bits: against sums of whole numbers, and what must not change."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import ImageFilter
from scipy.stats import spearmanr
from torch import nn

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.datasets.demo import open_picture
from dpiqa_lab.nn import int8
from dpiqa_lab.nn.int8 import Int8, _rounded, int8_kernels
from dpiqa_lab.nn.tensor_memo import _memo, memoize_tensors

pytestmark = pytest.mark.skipif(not int8_kernels(), reason="torch has no such kernels here")


def _seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _whole(layer, x):
    """What eight bits give by the book: float64, one photograph after the other."""
    weight = layer.weight.detach().double()
    scales = weight.flatten(1).abs().amax(1) / 127
    shape = (-1,) + (1,) * (weight.ndim - 1)
    rounded = (weight / scales.view(shape)).round()
    results = []
    for part in x.double().split(1):
        low, high = min(part.min().item(), 0), max(part.max().item(), 0)
        step = (high - low) / 255
        zero = math.floor(-low / step)
        values = (part / step + zero).round().clamp(0, 255) - zero
        if weight.ndim == 4:
            sums = F.conv2d(
                values, rounded, None, layer.stride, layer.padding, layer.dilation, layer.groups
            )
            scale, bias = (v.double().view(1, -1, 1, 1) for v in (scales, layer.bias))
        else:
            sums, scale, bias = F.linear(values, rounded), scales, layer.bias.double()
        results.append(sums * scale * step + bias)
    return torch.cat(results).detach()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 48, 3, padding=1),
        nn.Conv2d(64, 32, 1),
        nn.Conv2d(40, 40, 3, stride=2, padding=(1, 2), dilation=(1, 2)),
        nn.Conv2d(128, 64, 3, groups=2),
        nn.Linear(64, 80),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])  # zero within what is seen, below and above it
@pytest.mark.parametrize("size", [(17, 15), (40, 37)])  # a product of windows, and a convolution
def test_layers_give_the_sums_of_rounded_numbers(layer, shift, size):
    with torch.no_grad():
        layer.bias.copy_(_seeded(*layer.bias.shape))
    shape = (2, layer.weight.shape[1] * getattr(layer, "groups", 1), *size)
    x = _seeded(*shape) + shift if layer.weight.ndim == 4 else _seeded(2, 50, 64) + shift
    with torch.no_grad(), Int8():
        found = layer(x)
    expected = _whole(layer, x)
    # A number half way between two steps may go either way.
    assert (found - expected).abs().max() < 2e-3 * expected.abs().max()
    assert (found - expected).norm() < 5e-4 * expected.norm()
    plain = layer(x)
    assert 1e-4 < (found - plain).norm() / plain.norm() < 0.02


def test_a_photograph_has_the_same_scores_whatever_shares_its_batch():
    conv = nn.Conv2d(32, 32, 3, padding=1)
    small, large = _seeded(1, 32, 8, 8), 100 * _seeded(1, 32, 8, 8, seed=1)
    with torch.no_grad(), Int8():
        assert torch.equal(conv(torch.cat([small, large]))[:1], conv(small))


def test_small_layers_and_training_are_left_alone():
    x = _seeded(2, 16, 8, 8)
    few, linear = nn.Conv2d(16, 64, 3), nn.Linear(64, 64)
    conv, grouped = nn.Conv2d(32, 32, 3), nn.Conv2d(64, 64, 3, groups=64)
    same = nn.Conv2d(32, 32, 3, padding="same")
    cases = [(few, x), (linear, _seeded(2, 64)), (linear, _seeded(2, 8, 64))]
    cases += [(grouped, _seeded(1, 64, 9, 9)), (same, _seeded(1, 32, 9, 9))]
    cases += [(conv.double(), _seeded(1, 32, 9, 9).double())]
    for layer, given in cases:
        with torch.no_grad():
            plain = layer(given)
            with Int8():
                assert torch.equal(layer(given), plain)
    conv = conv.float()
    # One photograph without its batch, and a layer called by keywords, as no module calls it.
    alone, more = _seeded(32, 9, 9), _seeded(2, 3, 50, 64)
    with torch.no_grad():
        plain = conv(alone), linear(more), F.conv2d(input=alone[None], weight=conv.weight)
        with Int8():
            found = conv(alone), linear(more), F.conv2d(input=alone[None], weight=conv.weight)
    assert all(torch.equal(*pair) for pair in zip(plain, found, strict=True))
    with Int8():
        out = conv(_seeded(1, 32, 9, 9))
    assert torch.equal(out, conv(_seeded(1, 32, 9, 9)))
    out.sum().backward()
    assert conv.weight.grad is not None


def test_new_weights_are_seen_and_old_ones_let_go():
    conv, x = nn.Conv2d(32, 32, 3), _seeded(1, 32, 9, 9)
    with torch.no_grad(), memoize_tensors(), Int8():
        first = conv(x)
        assert torch.equal(conv(x), first)
        assert list(_memo.get()) == [conv.weight]
        conv.weight.mul_(2)
        assert (conv(x) - conv.bias.view(-1, 1, 1)).allclose(
            2 * (first - conv.bias.view(-1, 1, 1)), atol=1e-5
        )
        del conv, x
        assert len(_memo.get()) == 0


def test_what_was_rounded_serves_until_it_is_written_into():
    queries, keys, x = nn.Linear(64, 64), nn.Linear(64, 64), _seeded(2, 40, 64)
    with torch.no_grad(), memoize_tensors(), Int8():
        first = queries(x), keys(x)
        x.mul_(100)
        more = queries(x), keys(x)
        fresh = queries(x.clone()), keys(x.clone())
    assert all(torch.equal(*pair) for pair in zip(more, fresh, strict=True))
    assert not torch.allclose(first[0], more[0])
    # Without versions there is nothing to go by.
    with torch.inference_mode(), memoize_tensors(), Int8():
        y = x.clone()
        queries(y)
        y.mul_(0)
        assert torch.equal(queries(y)[0, 0], queries.bias)
    assert _rounded(torch.full((1, 40, 64), 7.0))[0].unique().tolist() == [255]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_and_harms_no_other(wrong):
    conv = nn.Conv2d(32, 32, 3, padding=1)
    x = _seeded(2, 32, 8, 8)
    with torch.no_grad(), Int8():
        good = conv(x)
        x[0, 0, 4, 4] = wrong
        found = conv(x)
        assert not torch.isfinite(found[0]).all()
        assert torch.equal(found[1], good[1])
        assert torch.equal(conv(torch.zeros(1, 32, 8, 8))[0, :, 4, 4], conv.bias)


def test_precision_int8_is_for_evaluation_on_a_cpu(monkeypatch):
    assert not choose_compute("cpu", "int8").trains
    with pytest.raises(lab.LabError, match="unknown precision 'int8'"):
        lab.TrainConfig.from_parameters({"precision": "int8"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(lab.LabError, match="'int8' is for CPUs"):
        choose_compute("cuda", "int8")


@pytest.mark.medium
def test_scores_in_int8_are_a_little_off():
    names = ("astronaut.png", "camera.png", "chelsea.png", "china.jpg", "coffee.png", "rocket.jpg")
    clean = [open_picture(name).convert("RGB") for name in names]
    few = clean + [picture.filter(ImageFilter.GaussianBlur(3)) for picture in clean]
    student = lab.load_model("embedded")
    exact = student.score(few, device="cpu")
    rough = student.score(few, device="cpu", precision="int8")
    alone = student.score(few[:1], device="cpu", precision="int8")
    assert np.abs(rough[:1] - alone).max() < 1e-5
    off = np.abs(rough - exact)
    print(f"off by {off.mean():.4f} of a scale of 1, at most {off.max():.4f}")
    assert spearmanr(rough, exact)[0] > 0.95
    assert 0 < off.mean() < 0.05


@pytest.mark.medium
def test_a_teacher_has_its_int8_weights_once_and_no_gradients(monkeypatch):
    teacher = lab.Teacher(lab.load_backbone("tiny"), "none", image_size=64, decoder_width=64)
    photographs = [
        torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
    ]
    exact = teacher.score(photographs, device="cpu")
    made, rounded = [], int8._rounded_weights

    def counting(weight, use, pack):
        return rounded(weight, use, lambda *given: made.append(use) or pack(*given))

    monkeypatch.setattr(int8, "_rounded_weights", counting)
    rough = teacher.score(photographs, device="cpu", precision="int8")
    once = len(made)
    assert np.array_equal(teacher.score(photographs, device="cpu", precision="int8"), rough)
    assert len(made) == 2 * once > 100
    several = teacher.score(photographs, batch_size=1, device="cpu", precision="int8")
    assert np.allclose(several, rough, atol=1e-5)
    assert len(made) == 3 * once
    assert 0 < np.abs(rough - exact).max() < 0.2 * np.abs(exact).max()
