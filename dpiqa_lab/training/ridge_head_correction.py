"""Closed-form correction of a trained head, by ridge regression of its residuals.

In the few steps of a small trunk's training a head learns little from features that vary little
between images; a ridge regression on the standardised features does.
"""

import numpy as np

from .. import metrics
from ..models.pooled_regressor import CorrectedHead
from ..ridge import fit_ridge

# Deviation over photographs below which a feature is taken for constant: dividing by it would
# magnify rounding. Within a photograph features deviate by about 1.
_STILL = 1e-3
# SRCC on val that a stronger penalty may cost.
_TOLERANCE = 0.01


def fit_ridge_correction(
    head: CorrectedHead,
    features: np.ndarray,
    left: np.ndarray,
    features_val: np.ndarray,
    score_val: np.ndarray,
    mos_val: np.ndarray,
) -> dict[str, float]:
    """Correct ``head``, which is not corrected yet, where that ranks val better.

    Args:
        features, features_val: (n, k) and (m, k), outputs of the head's ``norm``.
        left: (n,), score taught less score given.
        score_val, mos_val: (m,), by them the penalty is chosen.

    Returns:
        SRCC on val: srcc_before, and srcc as it is now.
    """
    varied = features.std(0) >= _STILL
    x, x_val = (np.where(varied, part, 0.0) for part in (features, features_val))
    ridge = fit_ridge(x, left, x_val, mos_val, score_val, _TOLERANCE)
    before = metrics.srcc(score_val, mos_val)
    after = metrics.srcc(score_val + ridge.predict(x_val), mos_val)
    if not after > before:
        return {"srcc_before": before, "srcc": before}
    scaler, line = ridge.named_steps.values()
    head.correct(scaler.mean_, scaler.scale_, line.coef_, line.intercept_)
    return {"srcc_before": before, "srcc": after}
