"""What a quality model has to beat, each fitted to the parts that the model is fitted to.

A baseline takes the datasets train, val and test, which give ``{"image": (3, H, W) float32 in
[0, 1], "mos": float, "name": str}`` by index, and returns a dict with ``predictions`` (n,) for
test, higher is better, and what it chose.
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

    The features are those of ``models.encoders``, kept in the cache. Of the penalties that rank val
    within 0.005 of the best the strongest is taken: what many features say of photographs unlike
    those of train is the safer for it.

    Args:
        trunk, weights, image_size: of ``models.encoders.Encoder``.

    Raises:
        LabError: the encoder's weights cannot be had; the message names the package to install.
    """
    encoder = Encoder(trunk, weights, image_size)
    fit, choose, unseen = (encoder_features(encoder, part, device) for part in (train, val, test))
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


# By name, for ``evaluate``: ``test``'s photographs may be changed copies in files of their own, and
# its ``mos`` is not to be read.
BASELINES: dict[str, Callable[[Sequence, Sequence, Sequence], dict]] = {
    "ridge_on_statistics": ridge_on_statistics,
    "svr_on_naturalness": svr_on_naturalness,
    "ridge_on_efficientnet_lite0": ridge_on_encoder,
    "niqe": niqe,
    "re_iqa": re_iqa,
    "pmt_iqa": pmt_iqa,
}
