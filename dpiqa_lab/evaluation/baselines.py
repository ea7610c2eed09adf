"""Baselines, fitted to train and val of the dataset under test.

A baseline takes the datasets train, val and test, with items ``{"image": (3, H, W) float32 in
[0, 1], "mos": float, "name": str}``, and returns a dict with ``predictions`` (n,) for test, higher
is better, and the hyperparameters chosen.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..datasets.brisque_features import naturalness
from ..datasets.dataset_access import mos_of
from ..datasets.image_statistics import dataset_statistics
from ..metrics import srcc
from ..models.encoders import Encoder, encoder_features
from ..ridge import fit_ridge
from .niqe_baseline import niqe
from .peers import pmt_iqa, re_iqa


def ridge_on_statistics(
    train: Sequence, val: Sequence, test: Sequence, workers: int = 4
) -> dict[str, np.ndarray | float]:
    """``predictions`` (n,) of MOS for test by `fit_ridge` on `STATISTICS`, and its ``alpha``.

    Datasets and errors as for `dataset_statistics`.
    """
    (fit, fit_mos), (choose, choose_mos), (unseen, _) = (
        dataset_statistics(dataset, workers) for dataset in (train, val, test)
    )
    model = fit_ridge(fit, fit_mos, choose, choose_mos)
    return {"predictions": model.predict(unseen), "alpha": float(model["ridge"].alpha)}


def ridge_on_encoder(
    train: Sequence,
    val: Sequence,
    test: Sequence,
    trunk: str = "efficientnet_lite0",
    weights: str = "imagenet",
    image_size: int = 512,
    device: str = "auto",
) -> dict[str, np.ndarray | float]:
    """``predictions`` (n,) of MOS for test by ridge on a frozen encoder, and its ``alpha``.

    Features of ``models.encoders`` are cached. The penalty is the strongest whose SRCC on val is
    within 0.005 of the best, which generalises better to images unlike those of train.

    Args:
        trunk, weights, image_size: of ``models.encoders.Encoder``.

    Raises:
        LabError: the encoder's weights are not available; the message names the package to install.
    """
    encoder = Encoder(trunk, weights, image_size)
    fit, choose, unseen = (encoder_features(encoder, split, device) for split in (train, val, test))
    model = fit_ridge(fit, mos_of(train), choose, mos_of(val), tolerance=0.005)
    return {"predictions": model.predict(unseen), "alpha": float(model["ridge"].alpha)}


def svr_on_naturalness(
    train: Sequence, val: Sequence, test: Sequence, workers: int = 4
) -> dict[str, np.ndarray | float]:
    """``predictions`` (n,) of MOS for test by BRISQUE's statistics and its regressor.

    A support vector machine with a Gaussian kernel on the statistics scaled to [-1, 1], as
    published; its ``C`` and ``gamma`` are those with the highest SRCC on val. Datasets and errors
    as for `dataset_statistics`.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVR

    (fit, fit_mos), (choose, choose_mos), (unseen, _) = (
        dataset_statistics(dataset, workers, naturalness) for dataset in (train, val, test)
    )
    models = [
        make_pipeline(MinMaxScaler((-1, 1), clip=True), SVR(C=c, gamma=gamma, epsilon=0.02)).fit(
            fit, fit_mos
        )
        for c in (0.1, 1.0, 10.0, 100.0)
        for gamma in (0.01, 0.05, 0.2)
    ]
    scores = [np.nan_to_num(srcc(m.predict(choose), choose_mos), nan=-2.0) for m in models]
    best = models[int(np.argmax(scores))]
    return {
        "predictions": best.predict(unseen),
        "C": best["svr"].C,
        "gamma": best["svr"].gamma,
    }


# For ``evaluate``: ``test`` may hold perturbed copies, and its ``mos`` must not be read.
BASELINES: dict[str, Callable[..., dict]] = {
    "ridge_on_statistics": ridge_on_statistics,
    "svr_on_naturalness": svr_on_naturalness,
    "ridge_on_efficientnet_lite0": ridge_on_encoder,
    "niqe": niqe,
    "re_iqa": re_iqa,
    "pmt_iqa": pmt_iqa,
}
