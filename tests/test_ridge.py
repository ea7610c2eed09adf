"""Ridge regressions whose penalty is chosen on validation or on contents left out."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from dpiqa_lab.ridge import ALPHAS, fit_ridge, fit_ridge_left_out


def linear(n: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5)) * (1, 10, 0.1, 1, 1)
    target = features @ (1, -0.2, 5, 0, 0) + 3
    return features, target + noise * rng.normal(size=n)


def test_ridge_recovers_a_linear_target():
    model = fit_ridge(*linear(200, 0), *linear(50, 1))
    features, mos = linear(50, 2)
    assert model.predict(features) == pytest.approx(mos, abs=0.01)


def test_ridge_chooses_the_penalty_on_validation():
    # Far more features than photographs: only a strong penalty carries over.
    rng = np.random.default_rng(0)
    weights = rng.normal(size=60)
    fit, choose = rng.normal(size=(25, 60)), rng.normal(size=(300, 60))
    model = fit_ridge(fit, fit @ weights + 20 * rng.normal(size=25), choose, choose @ weights)
    assert model["ridge"].alpha > 0.1
    undefined = fit_ridge(*linear(9, 0), *linear(2, 1))
    assert undefined["ridge"].alpha == max(ALPHAS)


def test_a_tolerance_takes_the_strongest_penalty_that_costs_no_more():
    rng = np.random.default_rng(2)
    weights = rng.normal(size=20)
    fit, choose = rng.normal(size=(60, 20)), rng.normal(size=(40, 20))
    mos = [x @ weights + 6 * rng.normal(size=len(x)) for x in (fit, choose)]
    known = rng.normal(size=40)
    z, z_val = ((x - fit.mean(0)) / fit.std(0) for x in (fit, choose))
    found = {
        alpha: spearmanr(Ridge(alpha=alpha).fit(z, mos[0]).predict(z_val) + known, mos[1])[0]
        for alpha in ALPHAS
    }
    chosen = []
    for tolerance in (0.0, 0.02, 0.1, 2.0):
        model = fit_ridge(fit, mos[0], choose, mos[1], known, tolerance)
        least = max(found.values()) - tolerance - 1e-9
        assert model["ridge"].alpha == max(a for a, srcc in found.items() if srcc >= least)
        chosen.append(model["ridge"].alpha)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == max(ALPHAS)


def test_the_penalty_suits_photographs_left_out():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 60))
    mos = features @ rng.normal(size=60) + 20 * rng.normal(size=40)
    ridge = fit_ridge_left_out(features, mos)["ridgecv"]
    z = (features - features.mean(0)) / features.std(0)
    errors = {}
    for alpha in 10 * ALPHAS:
        model = Ridge(alpha=alpha)
        left = [model.fit(np.delete(z, i, 0), np.delete(mos, i)).predict(z[[i]]) for i in range(40)]
        errors[alpha] = np.square(np.ravel(left) - mos).mean()
    assert ridge.alpha_ == min(errors, key=errors.get)


def test_the_penalty_is_chosen_on_contents_left_out():
    """Features that name the content do well on photographs left out, not on contents."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    names, mos = rng.normal(size=(12, 40))[groups], rng.random(12)[groups]
    inside, photographs = (
        fit_ridge_left_out(names, mos, known)["ridgecv"] for known in (groups, None)
    )
    assert inside.alpha_ > 100 * photographs.alpha_
    assert abs(inside.coef_).max() < 0.5 * abs(photographs.coef_).max()


def test_the_penalty_is_the_one_that_ranks_a_content_by_itself():
    """Few contents tell little of how contents differ: that must not shrink the rest."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    names, inside = rng.normal(size=(12, 40))[groups], rng.normal(size=(240, 5))
    slopes = np.linspace(-1, 1, 5)
    mos = inside @ slopes + rng.normal(0, 5, 12)[groups]
    scaler, line = fit_ridge_left_out(np.c_[names, inside], mos, groups).named_steps.values()
    assert line.coef_[40:] / scaler.scale_[40:] == pytest.approx(slopes, abs=0.05)


@pytest.mark.parametrize("groups", [None, np.arange(201) // 3])
def test_a_line_is_recovered_whatever_is_left_out(groups):
    features, mos = linear(201, 0)
    assert fit_ridge_left_out(features, mos, groups).predict(features) == pytest.approx(
        mos, abs=0.01
    )


def test_where_there_is_nothing_to_learn_the_mean_is_said():
    rng = np.random.default_rng(0)
    features, mos = rng.random((600, 5)), rng.random(600)
    model = fit_ridge_left_out(features, mos)
    scaler, line = model.named_steps.values()
    assert abs(line.coef_ / scaler.scale_).max() < 0.1
    assert model.predict(features).mean() == pytest.approx(mos.mean(), abs=0.05)
