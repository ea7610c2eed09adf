"""Ridge regression from standardised features to MOS, its penalty chosen on validation."""

from typing import TYPE_CHECKING

import numpy as np

from ..metrics import srcc

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ALPHAS = np.logspace(-3, 5, 17)


def fit_ridge(
    features_train: np.ndarray,
    mos_train: np.ndarray,
    features_val: np.ndarray,
    mos_val: np.ndarray,
) -> "Pipeline":
    """Standardisation and ridge regression from features (n, k) to MOS (n,), fitted to train.

    Of the penalties `ALPHAS`, the one with the highest SRCC on val is kept, the strongest of
    equals; where SRCC is undefined, as for fewer than three photographs, the strongest of all.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    best, best_srcc = None, -np.inf
    for alpha in sorted(ALPHAS, reverse=True):
        model = make_pipeline(StandardScaler(), Ridge(alpha=alpha))
        model.fit(features_train, mos_train)
        score = np.nan_to_num(srcc(model.predict(features_val), mos_val), nan=-2.0)
        if score > best_srcc:
            best, best_srcc = model, score
    return best
