"""The start at frequencies, against scipy's cosine transform and by hand."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from dpiqa_lab.models.image_adapter import ImageAdapter
from dpiqa_lab.models.initialization import (
    QUIET,
    _frequencies,
    init_from_frequencies,
    init_from_ridge,
)
from dpiqa_lab.ridge import fit_ridge

LUMA = np.array([0.299, 0.587, 0.114])


def test_all_frequencies_of_luma_are_scipys_cosine_transform():
    block = torch.rand(3, 8, 8, dtype=torch.float64)
    filters = _frequencies(192, 8).double()[:64]
    found = (filters @ block.flatten()).numpy()
    luma = np.einsum("c,cyx->yx", LUMA, block.numpy())
    # scipy doubles the sums along both axes.
    expected = dctn(luma, type=2) / 4
    order = sorted(((a, b) for a in range(8) for b in range(8)), key=lambda ab: (sum(ab), ab))
    np.testing.assert_allclose(found, [expected[a, b] for a, b in order], rtol=1e-6)


def test_a_few_channels_span_the_lowest_to_the_highest_frequency():
    filters = _frequencies(48, 8)
    assert filters.shape == (48, 192)
    mean = filters.reshape(48, 3, 64).abs().sum(2)
    # Luma is green above all, its differences blue and red.
    assert mean[:36].argmax(1).unique().tolist() == [1]
    assert mean[36:42].argmax(1).unique().tolist() == [2]
    assert mean[42:].argmax(1).unique().tolist() == [0]
    lowest, highest = filters[0].reshape(3, 8, 8)[0], filters[35].reshape(3, 8, 8)[0]
    assert lowest.std() < 1e-6
    assert (torch.sign(highest[0, 1:]) != torch.sign(highest[0, :-1])).all()


@torch.no_grad()
def test_frequencies_are_seen_alike_though_photographs_hold_little_of_the_fine_ones():
    torch.manual_seed(0)
    coarse = torch.nn.functional.interpolate(torch.rand(16, 3, 8, 8), (64, 64), mode="bicubic")
    images = (coarse + 0.01 * torch.randn(16, 3, 64, 64)).clamp(0, 1)
    adapter = ImageAdapter([48, 96, 128, 128])
    plain = adapter.conv_in(adapter.unshuffle(images)).std((0, 2, 3))
    init_from_frequencies(adapter, images)
    seen = adapter.conv_in(adapter.unshuffle(images))
    assert plain.max() < 0.3
    np.testing.assert_allclose(seen.std((0, 2, 3)), QUIET, rtol=1e-4)
    assert seen.mean((0, 2, 3)).abs().max() < 1e-4
    assert [x.shape[1] for x in adapter(images)] == [48, 96, 128, 128]


@pytest.mark.parametrize("channels", [8, 320])
def test_any_width_has_a_start(channels):
    adapter = ImageAdapter([channels, channels])
    init_from_frequencies(adapter, torch.rand(4, 3, 32, 32))
    assert all(x.isfinite().all() for x in adapter(torch.rand(1, 3, 32, 32)))


@torch.no_grad()
def test_a_last_layer_starts_at_the_line_that_its_inputs_follow():
    # Far from 0 and of unlike spreads, as the deviations and means of features are; one is dead.
    inputs = 5 + torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) * torch.logspace(
        -1, 1, 4
    )
    inputs[:, 3] = 7
    mos = inputs @ torch.tensor([0.3, -0.02, 0.01, 0]) + 0.4
    last, (x, y) = torch.nn.Linear(6, 1), (inputs.double().numpy(), mos.double().numpy())
    init_from_ridge(last, fit_ridge(x, y, x, y))
    hidden = torch.randn(60, 2)  # of which the start says nothing
    torch.testing.assert_close(last(torch.cat([hidden, inputs], 1))[:, 0], mos, atol=1e-3, rtol=0)
