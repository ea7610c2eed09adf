"""Ridge regression from standardised features, its penalty chosen by what it ranks best."""

from typing import TYPE_CHECKING

import numpy as np

from .metrics import srcc

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ALPHAS = np.logspace(-3, 5, 17)
# Into which contents are divided, each left out once.
_PARTS = 14


def fit_ridge(
    features_train: np.ndarray,
    mos_train: np.ndarray,
    features_val: np.ndarray,
    mos_val: np.ndarray,
    known_val: np.ndarray | float = 0.0,
    tolerance: float = 0.0,
) -> "Pipeline":
    """Standardisation and ridge regression from features (n, k) to MOS (n,), fitted to train.

    Of the penalties `ALPHAS`, the one with the highest SRCC on val is kept, the strongest of
    equals; where SRCC is undefined, as for fewer than three photographs, the strongest of all.

    Args:
        mos_train: or what is left of it by a model whose scores of val are ``known_val``: to these
            the predictions are added before they are judged.
        tolerance: SRCC below the highest that counts as equal to it. A strong penalty lets less be
            said of photographs unlike those of train and val.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features_train)
    train, val = scaler.transform(features_train), scaler.transform(features_val)
    alphas = np.sort(ALPHAS)[::-1]
    predictions = ridge_path(train, mos_train - np.mean(mos_train), val, alphas).T + known_val
    scores = [np.nan_to_num(srcc(row, mos_val), nan=-2.0) for row in predictions]
    scores = np.round(scores, 9)
    best = alphas[int(np.argmax(scores >= scores.max() - tolerance))]  # the first of equals
    return make_pipeline(scaler, Ridge(alpha=best).fit(train, mos_train))


def fit_ridge_left_out(
    features: np.ndarray, mos: np.ndarray, groups: np.ndarray | None = None
) -> "Pipeline":
    """The same from train alone: a penalty that suits photographs left out one by one.

    Args:
        groups: (n,) contents, where photographs share them: the penalty is then the one that ranks
            a content left out best by itself. Chosen by squared error it would be too strong, as
            few contents tell little of how contents differ; by single photographs, too weak.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    choice = {}
    if groups is not None and 1 < len(set(groups)) < len(groups):
        apart = GroupKFold(min(_PARTS, len(set(groups)))).split(features, mos, groups)
        choice = {"cv": list(apart), "scoring": _ranking}
    return make_pipeline(StandardScaler(), RidgeCV(10 * ALPHAS, **choice)).fit(features, mos)


def _ranking(model, x: np.ndarray, y: np.ndarray) -> float:
    """SRCC, and among equals the squared error: scikit-learn's rule for a scorer."""
    scores = model.predict(x)
    ranked = np.nan_to_num(srcc(scores, y))  # 0 where it is undefined
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
