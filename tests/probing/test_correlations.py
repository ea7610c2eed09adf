import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ortho_group, spearmanr

from dpiqa_lab.probing.correlations import (
    channel_correlations,
    correlation_p,
    layer_similarity,
    linear_cka,
    mean_pearson,
    photograph_map,
    spearman_columns,
    top_bottom_images,
)
from dpiqa_lab.probing.features import POOLINGS, Features


def features(**taps):
    n = len(next(iter(taps.values())))
    rng = np.random.default_rng(1)
    names = [f"{i}.png" for i in range(n)]
    table = pd.DataFrame({"name": names, "path": names, "mos": rng.permutation(n) / n})
    rows = {
        (1, tap): dict.fromkeys(POOLINGS, torch.tensor(x, dtype=torch.float32))
        for tap, x in taps.items()
    }
    return Features(rows, table)


def noise(n, k, seed=0):
    return np.random.default_rng(seed).normal(size=(n, k))


@pytest.mark.parametrize("shape", [(80, 6), (10, 30)])
def test_cka_of_itself_a_rotation_and_a_scale_is_one(shape):
    x = noise(*shape)
    rotation = ortho_group.rvs(shape[1], random_state=0)
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1)
    assert linear_cka(x, x * np.logspace(0, 3, shape[1])) < 0.99


def test_cka_by_hand():
    # Centred: x = (-1, 0, 1), y = (1, -2, 1): orthogonal. z = (x, y): |z'x|^2 / |x'x| |z'z|_F.
    x, y = np.array([[0.0], [1], [2]]), np.array([[3.0], [0], [3]])
    assert linear_cka(x, y) == pytest.approx(0)
    assert linear_cka(x, np.hstack([x, y])) == pytest.approx(4 / (2 * np.sqrt(4 + 36)))
    assert np.isnan(linear_cka(x, np.ones((3, 2))))


def test_cka_is_the_same_through_channels_and_through_photographs():
    x, y = noise(20, 20), noise(20, 12, 1)
    wide = np.hstack([x, np.zeros((20, 1))])  # one more channel that says nothing
    assert linear_cka(wide, y) == pytest.approx(linear_cka(x, y))


def test_mean_pearson_by_hand():
    x = np.array([[0.0, 5], [1, 5], [2, 5]])  # a constant channel is left out
    y = np.array([[0.0, 3], [-1, 0], [-2, 3]])  # -1 and 0
    assert mean_pearson(x, y) == pytest.approx(0.5)
    assert np.isnan(mean_pearson(x[:, 1:], y))


def test_similarity_tables_are_square_and_symmetric():
    found = features(a=noise(30, 4), b=noise(30, 7, 1))
    for measure in (linear_cka, mean_pearson):
        table = layer_similarity(found, 1, measure=measure)
        assert list(table.index) == list(table.columns) == ["a", "b"]
        assert table.loc["a", "b"] == table.loc["b", "a"]
    assert layer_similarity(found, 1).loc["a", "a"] == pytest.approx(1)


def test_spearman_of_columns_is_scipy_s_ties_included():
    x = np.round(noise(50, 6), 1)
    y = np.round(noise(50, 1, 3)[:, 0], 1)
    expected = [spearmanr(column, y) for column in x.T]
    assert spearman_columns(x, y) == pytest.approx([e.statistic for e in expected])
    p = correlation_p(spearman_columns(x, y), 50)
    assert p == pytest.approx([e.pvalue for e in expected])
    assert correlation_p(np.array([1.0, -1.0, 0.0, np.nan]), 9).tolist() == [0, 0, 1, 1]


def test_channels_are_controlled_over_all_taps_together():
    n = 200
    found = features(a=noise(n, 40), b=noise(n, 40, 1))
    mos = torch.tensor(found.table["mos"].to_numpy(), dtype=torch.float32)
    for pooling in POOLINGS:
        found._rows[1, "b"][pooling][:, 3] = -mos
        found._rows[1, "b"][pooling][:, 4] = 1.0
    table = channel_correlations(found)
    assert len(table) == 80
    carrier = table[(table["tap"] == "b") & (table["channel"] == 3)].iloc[0]
    assert carrier["srcc"] == pytest.approx(-1)
    assert carrier["q"] < 1e-6
    constant = table[(table["tap"] == "b") & (table["channel"] == 4)].iloc[0]
    assert np.isnan(constant["srcc"])
    assert (constant["p"], constant["q"]) == (1, 1)
    # Benjamini & Hochberg by hand: from the largest p down, the least of p * m / rank.
    p = np.sort(table["p"].to_numpy())
    by_hand = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    assert np.sort(table["q"].to_numpy()) == pytest.approx(by_hand)
    assert (table["q"] < 0.05).sum() <= 3 < (table["p"] < 0.1).sum()


def test_benjamini_and_hochberg_s_own_example():
    """Their table of 1995: of 15 p-values, four are significant at 0.05."""
    from scipy.stats import false_discovery_control

    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    assert (false_discovery_control(p) <= 0.05).sum() == 4


def test_extremes_are_both_ends_of_a_channel():
    x = np.arange(10.0)[:, None] * [[1, -1]]
    found = top_bottom_images(features(a=x), 1, "a", 1, n=2)
    assert found["name"].tolist() == ["0.png", "1.png", "8.png", "9.png"]
    assert found["score"].tolist() == [0, -1, -8, -9]
    assert len(top_bottom_images(features(a=x[:3]), 1, "a", 0, n=4)) == 2


def test_a_map_keeps_two_groups_apart_and_is_the_same_again():
    x = np.vstack([noise(20, 6), noise(20, 6, 1) + 8])
    table = features(a=x).table
    placed = photograph_map(x, table)
    for kind in ("pca", "tsne"):
        points = placed[[f"{kind}_x", f"{kind}_y"]].to_numpy()
        centres = points[:20].mean(0), points[20:].mean(0)
        spread = max(np.abs(points[:20] - centres[0]).max(), np.abs(points[20:] - centres[1]).max())
        assert np.linalg.norm(centres[0] - centres[1]) > spread
    pd.testing.assert_frame_equal(placed, photograph_map(x, table))
    assert photograph_map(x[:4], table[:4])["tsne_x"].isna().all()
