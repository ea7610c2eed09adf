"""Scores of a model on a dataset: computed once for each photograph, kept, and checked."""

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
    """Scores (n,) float64 of the photographs in ``table``, rows as a dataset's table has them.

    A scorer is asked only for photographs whose scores are not in the cache under its key; one
    without a key for all of them.

    Args:
        dataset: under test, whose train and val parts a baseline is fitted to.
        cache_dir: ``None`` is the lab's own.

    Raises:
        LabError: the scorer gave another number of scores, or one that is not finite; or whatever
            it raises itself.
    """

    def compute(positions: list[int]) -> dict[str, torch.Tensor]:
        photographs = with_rows(dataset, table.iloc[positions])
        return {"score": torch.from_numpy(_checked(scorer, dataset, photographs))}

    key = scorer.key(dataset)
    if key is None:
        return compute(list(range(len(table))))["score"].numpy()
    ids = list(table["hash"])
    if not scorer.sees_pixels:  # it knows photographs by their names
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
