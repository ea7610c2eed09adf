"""Error analysis: by image trait, under perturbations, and between models.

``scores`` is as for ``agreement``; ``photographs`` has a row per dataset and image: dataset, name,
mos and the columns of ``TRAITS``.
"""

import numpy as np
import pandas as pd

from .. import metrics
from ..datasets.dataset import QualityDataset
from ..datasets.image_statistics import STATISTICS, cached_statistics
from .agreement import fitted_curve, mean_interval

# Column to axis label.
TRAITS = {
    "mos": "MOS",
    "brightness": "brightness (mean luma)",
    "sharpness": "sharpness (ln of the Laplacian's variance)",
    "megapixels": "size (megapixels)",
}
_BINS = 5  # per trait, of equal numbers of images


def photograph_traits(dataset: QualityDataset) -> pd.DataFrame:
    """name, path, mos, brightness, sharpness, megapixels of a dataset's images.

    Brightness and sharpness at the dataset's ``image_size``, megapixels of the file.
    """
    table = dataset.table
    found = cached_statistics(dataset)
    return pd.DataFrame(
        {
            "name": table["name"],
            "path": table["path"].astype(str),
            "mos": table["mos"],
            "brightness": found[:, STATISTICS.index("luma_mean")],
            "sharpness": found[:, STATISTICS.index("laplacian_log_variance")],
            "megapixels": table["height"] * table["width"] / 1e6,
        }
    )


def errors_by_trait(scores: pd.DataFrame, photographs: pd.DataFrame) -> pd.DataFrame:
    """Error after the logistic mapping, by each of ``TRAITS``.

    A row per dataset, model, trait and bin: n, ``at`` (mean of the trait), ``distance`` (mean
    absolute error) with ``distance_low`` and ``distance_high`` (95%, by its standard error), and
    ``bias`` (mean of mapped score - MOS). Bins have equal numbers of images; equal values share a
    bin. Models without a fitted logistic are omitted.
    """
    rows = []
    for (dataset, model), part in scores.groupby(["dataset", "model"], sort=False):
        curve, _ = fitted_curve(part["score"].to_numpy(float), part["mos"].to_numpy(float))
        if not curve.fitted:
            continue
        here = photographs[photographs["dataset"] == dataset].set_index("name")
        error = curve(part["score"]) - part["mos"].to_numpy(float)
        for trait in TRAITS:
            values = here[trait].loc[part["name"]].to_numpy(float)
            bins = pd.qcut(values, _BINS, labels=False, duplicates="drop")
            for place in np.unique(bins[np.isfinite(bins)]) if np.ptp(values) else [0]:
                chosen = bins == place if np.ptp(values) else np.ones(len(values), bool)
                mean, low, high = mean_interval(np.abs(error[chosen]))
                at = {"trait": trait, "bin": int(place), "n": int(chosen.sum())}
                found = {"distance": mean, "distance_low": low, "distance_high": high}
                at |= {"at": values[chosen].mean(), **found, "bias": error[chosen].mean()}
                rows.append({"dataset": dataset, "model": model, **at})
    columns = ["dataset", "model", "trait", "bin", "n", "at"]
    return pd.DataFrame(
        rows, columns=[*columns, "distance", "distance_low", "distance_high", "bias"]
    )


def robustness(scores: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """Score changes under perturbation.

    Args:
        changes: dataset, model, name, change, score, a row per perturbed copy.

    Returns:
        A row per dataset, model and perturbation: n; ``moved``, the mean absolute difference of
        scores, and ``shift``, the mean difference (after - before), both in standard deviations of
        the model's scores on the dataset (NaN if constant); ``srcc`` between before and after.
    """
    rows = []
    spread = scores.groupby(["dataset", "model"])["score"].std(ddof=0)
    before = scores.set_index(["dataset", "model", "name"])["score"].sort_index()
    for by, part in changes.groupby(["dataset", "model", "change"], sort=False):
        dataset, model, change = by
        clean = before.loc[dataset, model].loc[part["name"]].to_numpy(float)
        unit = spread.loc[dataset, model] or float("nan")
        moves = (part["score"].to_numpy(float) - clean) / unit
        found = {"moved": np.abs(moves).mean(), "shift": moves.mean()}
        found["srcc"] = metrics.srcc(clean, part["score"])
        rows.append({"dataset": dataset, "model": model, "change": change, "n": len(part), **found})
    columns = ["dataset", "model", "change", "n", "moved", "shift", "srcc"]
    return pd.DataFrame(rows, columns=columns)


def disagreements(scores: pd.DataFrame, n: int = 20) -> pd.DataFrame:
    """The ``n`` images of each dataset with the largest rank difference between models.

    A row per image, largest difference first: dataset, name, mos, ``apart`` (highest - lowest
    rank, in [0, 1] within the dataset), and the models ``highest`` and ``lowest`` with their
    ranks. Empty for datasets with fewer than two models.
    """
    tables = []
    for dataset, part in scores.groupby("dataset", sort=False):
        wide = part.pivot(index="name", columns="model", values="score")
        if wide.shape[1] < 2 or len(wide) < 2:
            continue
        ranks = (wide.rank() - 1) / (len(wide) - 1)
        found = pd.DataFrame(
            {
                "dataset": dataset,
                "mos": part.drop_duplicates("name").set_index("name")["mos"],
                "apart": ranks.max(axis=1) - ranks.min(axis=1),
                "highest": ranks.idxmax(axis=1),
                "highest_rank": ranks.max(axis=1),
                "lowest": ranks.idxmin(axis=1),
                "lowest_rank": ranks.min(axis=1),
            }
        ).rename_axis("name")
        found = found.sort_values("apart", ascending=False, kind="stable").head(n).reset_index()
        tables.append(found)
    columns = ["dataset", "name", "mos", "apart", "highest", "highest_rank", "lowest"]
    columns.append("lowest_rank")
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    )
