"""Ridge regression from standardised features, with the penalty of the best rank correlation."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import srcc

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

ALPHAS = np.logspace(-3, 5, 17)
# Folds over groups.
_FOLDS = 14


def fit_ridge(
    features_train: np.ndarray,
    mos_train: np.ndarray,
    features_val: np.ndarray,
    mos_val: np.ndarray,
    known_val: np.ndarray | float = 0.0,
    tolerance: float = 0.0,
) -> "Pipeline":
    """Standardisation and ridge regression from features (n, k) to MOS (n,), fitted to train.

    Of the penalties ``ALPHAS``, takes the one with the highest SRCC on val, the strongest among
    equals; the strongest of all if SRCC is undefined, as for fewer than three images.

    Args:
        mos_train: MOS, or its residuals from a model whose scores on val are ``known_val``.
        known_val: added to predictions on val before SRCC is computed.
        tolerance: difference of SRCC from the highest that counts as equal. Strong penalties
            generalise better to images unlike those of train and val.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features_train)
    train, val = scaler.transform(features_train), scaler.transform(features_val)
    alphas = np.sort(ALPHAS)[::-1]
    predictions = ridge_path(train, mos_train - np.mean(mos_train), val, alphas).T + known_val
    scores = np.array([srcc(row, mos_val) for row in predictions])
    scores = np.round(np.nan_to_num(scores, nan=-2.0), 9)
    best = alphas[int(np.argmax(scores >= scores.max() - tolerance))]  # the first of equals
    return make_pipeline(scaler, Ridge(alpha=best).fit(train, mos_train))


def fit_ridge_left_out(
    features: np.ndarray, mos: np.ndarray, groups: np.ndarray | None = None
) -> "Pipeline":
    """Standardisation and ridge regression with a penalty chosen by leave-one-out on train.

    Args:
        groups: (n,) contents, if images share them: the penalty then has the highest SRCC within
            left-out contents. Chosen by squared error it would be too strong, as few contents
            hardly show how contents differ; by single images, too weak.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    choice: dict[str, Any] = {}
    if groups is not None and 1 < len(set(groups)) < len(groups):
        apart = GroupKFold(min(_FOLDS, len(set(groups)))).split(features, mos, groups)
        choice = {"cv": list(apart), "scoring": _ranking}
    return make_pipeline(StandardScaler(), RidgeCV(10 * ALPHAS, **choice)).fit(features, mos)


def _ranking(model: "Ridge", x: np.ndarray, y: np.ndarray) -> float:
    """SRCC, with ties broken by squared error; a scorer for scikit-learn."""
    scores = model.predict(x)
    ranked = np.nan_to_num(srcc(scores, y))  # 0 if undefined
    return float(ranked - 1e-6 * np.square(scores - y).mean())


def ridge_path(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """Predictions (m, a) for ``x_new`` (m, k) of ridge regression on centred x (n, k) and y (n,).

    One eigendecomposition, of the smaller of the two Gram matrices, serves all penalties (a,).
    """
    if x.shape[1] <= x.shape[0]:
        values, vectors = np.linalg.eigh(x.T @ x)
        target, basis = vectors.T @ (x.T @ y), x_new @ vectors
    else:
        values, vectors = np.linalg.eigh(x @ x.T)
        target, basis = vectors.T @ y, x_new @ (x.T @ vectors)
    return basis @ (target[:, None] / (values.clip(min=0)[:, None] + alphas))
