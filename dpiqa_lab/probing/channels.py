"""How single channels go with MOS."""

import numpy as np
from scipy.stats import rankdata


def channel_srcc(x: np.ndarray, mos: np.ndarray) -> np.ndarray:
    """SRCC of every column of ``x`` (n, k) with ``mos`` (n,): (k,), NaN for constant columns."""
    ranks, target = rankdata(x, axis=0), rankdata(mos)
    ranks, target = ranks - ranks.mean(0), target - target.mean()
    spread = np.sqrt((ranks**2).sum(0) * (target**2).sum())
    return np.divide(target @ ranks, spread, out=np.full(x.shape[1], np.nan), where=spread > 0)
