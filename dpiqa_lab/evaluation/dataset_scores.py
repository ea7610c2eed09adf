"""Scores of a model on a dataset: checked, and cached per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..core.cache import RowCache
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.dataset import QualityDataset
from .perturbations import with_rows
from .scorers import Scorer


def scores_of(
    scorer: Scorer,
    dataset: QualityDataset,
    table: pd.DataFrame,
    cache_dir: Path | str | None = None,
) -> np.ndarray:
    """Scores (n,) float64 of the images in ``table``, which has the columns of a dataset's table.

    Only images without a cached score are scored; all of them for a scorer without a key.

    Args:
        dataset: under test; baselines are fitted to its train and val.
        cache_dir: ``None`` is the default.

    Raises:
        LabError: wrong number of scores, or a score that is not finite; or what the scorer raises.
    """

    def compute(positions: Sequence[int]) -> dict[str, torch.Tensor]:
        photographs = with_rows(dataset, table.iloc[positions])
        return {"score": torch.from_numpy(_checked(scorer, dataset, photographs))}

    key = scorer.key(dataset)
    if key is None:
        return compute(list(range(len(table))))["score"].numpy()
    ids = list(table["hash"])
    if not scorer.sees_pixels:  # it identifies images by name
        ids = [f"{name} {found}" for name, found in zip(table["name"], ids, strict=True)]
    rows = RowCache("scores", key, cache_dir).rows(
        ids,
        compute,
        scorer.batch or len(ids),
        lambda batches: progress_bar(batches, f"scoring: {scorer.name}"),
    )
    return rows["score"].numpy()


def _checked(scorer: Scorer, dataset: QualityDataset, photographs: QualityDataset) -> np.ndarray:
    given = scorer.predict(dataset, photographs)
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    try:
        values = np.array(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise LabError(f"{scorer.name} gave no numbers: {error}.") from error
    if values.shape != (len(photographs),):
        raise LabError(
            f"{scorer.name} gave scores of shape {values.shape} for {len(photographs)} images; "
            "expected one number each."
        )
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        name = photographs.table["name"][place]
        raise LabError(f"{scorer.name} gave {values[place]} for {name}; expected a finite number.")
    return values
