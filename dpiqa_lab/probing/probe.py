"""Linear probe: ridge regression of MOS on frozen features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import metrics
from ..core.errors import LabError
from ..datasets.split_schemes import SPLITS
from ..ridge import fit_ridge
from .features import Features

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def concat_features(
    features: Features,
    timestep: int | Sequence[int] | None = None,
    taps: str | Sequence[str] | None = None,
    poolings: Sequence[str] = ("mean", "std"),
) -> np.ndarray:
    """Pooled features side by side, (n, channels) float64; arguments as for ``probe``."""
    timesteps = features.timesteps if timestep is None else np.atleast_1d(timestep).tolist()
    taps = features.taps if taps is None else [taps] if isinstance(taps, str) else list(taps)
    parts = [features[t, tap, pool].numpy() for t in timesteps for tap in taps for pool in poolings]
    return np.concatenate(parts, axis=1).astype(np.float64)


def probe(
    features: Features,
    timestep: int | Sequence[int] | None = None,
    taps: str | Sequence[str] | None = None,
    poolings: Sequence[str] = ("mean", "std"),
) -> pd.DataFrame:
    """Ridge regression from pooled features to MOS; the penalty is chosen on val.

    Args:
        features: of a dataset with all splits (``split="all"``).
        timestep, taps: one or several, concatenated; ``None``: all that were extracted.
        poolings: statistics, concatenated.

    Returns:
        The test images: name, mos, score, split, and group and subset if known.

    Raises:
        LabError: a split is empty.
    """
    table = features.table
    test = table["split"] == "test"
    model, x = fit_probe(features, timestep, taps, poolings)
    extra = [name for name in ("subset", "group") if name in table]
    scores = model.predict(x[test.to_numpy()])
    return table.loc[test, ["name", "mos", "split", *extra]].assign(score=scores)


def fit_probe(
    features: Features,
    timestep: int | Sequence[int] | None = None,
    taps: str | Sequence[str] | None = None,
    poolings: Sequence[str] = ("mean", "std"),
) -> tuple["Pipeline", np.ndarray]:
    """The fitted regression of ``probe``, and its input (``concat_features``) for all images."""
    x = concat_features(features, timestep, taps, poolings)
    table = features.table
    rows = {split: (table["split"] == split).to_numpy() for split in SPLITS}
    if empty := [split for split, chosen in rows.items() if not chosen.any()]:
        raise LabError(f"the probe needs train, val and test photographs; empty: {empty}.")
    mos = table["mos"].to_numpy(float)
    return fit_ridge(x[rows["train"]], mos[rows["train"]], x[rows["val"]], mos[rows["val"]]), x


def probe_table(
    features: Features, poolings: Sequence[str] = ("mean", "std"), together: bool = True
) -> pd.DataFrame:
    """``probe`` for every timestep and tap, and for all taps together.

    Returns:
        A row each: timestep, tap ("all" together), n, srcc, srcc_low, srcc_high (95% bootstrap
        interval, over groups where known), plcc.
    """
    rows = []
    for timestep in features.timesteps:
        for tap in [*features.taps, *(["all"] if together else [])]:
            scores = probe(features, timestep, None if tap == "all" else tap, poolings)
            found = metrics.summary(scores["score"], scores["mos"], groups=scores.get("group"))
            low, high = found["srcc_ci"]
            rows.append(
                {
                    "timestep": timestep,
                    "tap": tap,
                    "n": found["n"],
                    "srcc": found["srcc"],
                    "srcc_low": low,
                    "srcc_high": high,
                    "plcc": found["plcc"],
                }
            )
    return pd.DataFrame(rows)
