"""What linear models read from cached features: each combination fitted once, then remembered."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from .. import metrics
from ..core.cache import RowCache, Rows
from ..core.files import json_hash
from ..probing.correlations import spearman_columns
from ..probing.features import Features, FeatureStore
from ..probing.probe import concat_features, fit_probe

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_MEMORY = 1_000_000_000  # bytes of features kept; Stable Diffusion's: 40 kB a tap and photograph


class FeatureKey(NamedTuple):
    """A combination: taps of one timestep, pooled, side by side."""

    timestep: int
    taps: tuple[str, ...]
    poolings: tuple[str, ...]


class Column(NamedTuple):
    """One feature; ``quarter`` (0 to 3, by rows) where it is the mean of one."""

    tap: str
    pooling: str
    channel: int
    quarter: int | None

    def __str__(self) -> str:
        part = "" if self.quarter is None else f" {self.quarter + 1}"
        return f"{self.tap}, {self.pooling}{part} of channel {self.channel}"


class Probes:
    """Features and probes of one store, by place; nothing is extracted here.

    Where features of a place are not in the cache, what needs them raises LabError.

    Args:
        store: the features. table: of the same dataset, with ``mos`` and ``split``.
    """

    def __init__(self, store: FeatureStore, table: pd.DataFrame):
        self.store = store
        self.table = table
        labels = [list(table["hash"]), list(table["mos"]), list(table["split"])]
        self._labels = json_hash(labels)
        self._features, self._fits, self._values, self._known = {}, {}, {}, {}
        self._columns = None, None  # the last ones asked for

    def features(self, place: FeatureKey) -> Features:
        """Of its taps and timestep."""
        rows = {}
        for tap in place.taps:
            key = place.timestep, tap
            if key not in self._features:
                self._features[key] = self.store.load(*key)
            rows[key] = self._features[key]
        for key in [key for key in self._features if key not in rows]:  # oldest first
            if self._bytes() <= _MEMORY:
                break
            del self._features[key]
        return Features(rows, self.table)

    def _bytes(self) -> int:
        return sum(part.nbytes for rows in self._features.values() for part in rows.values())

    def columns(self, place: FeatureKey) -> np.ndarray:
        """Features side by side, (n, k) float64: what the probe is fed."""
        if self._columns[0] != place:
            self._columns = place, concat_features(self.features(place), poolings=place.poolings)
        return self._columns[1]

    def column_names(self, place: FeatureKey) -> list[Column]:
        """What each of the ``columns`` is."""
        features = self.features(place)
        return [
            Column(tap, pooling, *(divmod(i, 4) if pooling == "grid" else (i, None)))
            for tap in place.taps
            for pooling in place.poolings
            for i in range(features[place.timestep, tap, pooling].shape[1])
        ]

    def predictions(self, place: FeatureKey) -> pd.DataFrame:
        """The probe's scores of the test part: name, path, mos, split, score, group where known.

        Kept on disk, so that a place seen before needs no fit.
        """
        table = self.table
        kept = [name for name in ("group",) if name in table]
        test = table.loc[table["split"] == "test", ["name", "path", "mos", "split", "hash", *kept]]

        def predict(positions):
            x = self.columns(place)[test.index[positions]]
            return {"score": torch.from_numpy(self.fitted(place).predict(x))}

        rows = self._cache(place).rows(list(test["hash"]), predict, batch_size=len(test))
        found = test.drop(columns="hash").assign(score=rows["score"].numpy())
        return found.reset_index(drop=True)

    def fitted(self, place: FeatureKey) -> "Pipeline":
        """The probe's regression, see ``fit_probe``."""
        if place not in self._fits:
            model, x = fit_probe(self.features(place), poolings=place.poolings)
            self._fits[place], self._columns = model, (place, x)
        return self._fits[place]

    def best(self, place: FeatureKey) -> int:
        """The column that goes best with MOS outside the test part; kept on disk too."""
        return int(self._best(place)["column"])

    def _best(self, place: FeatureKey) -> Rows:
        """``column``, and ``srcc``: its absolute value on the test part."""
        if place not in self._known:
            test = (self.table["split"] == "test").to_numpy()
            mos = self.table["mos"].to_numpy()

            def find(_) -> Rows:
                x = self.columns(place)
                column = int(np.nanargmax(np.abs(spearman_columns(x[~test], mos[~test]))))
                srcc = abs(metrics.srcc(x[test, column], mos[test]))
                found = {"column": torch.tensor([column])}
                return found | {"srcc": torch.tensor([srcc], dtype=torch.float64)}

            self._known[place] = self._cache(place, "best channel").rows(["best"], find)
        return self._known[place]

    def value(self, place: FeatureKey, statistic: str) -> float:
        """A statistic of ``explore_config`` on the test part; "channel" is that of ``best``.

        NaN where it is not computed yet: this neither extracts nor fits.
        """
        key = place, statistic
        if key not in self._values:
            known = self._of_channel(place) if statistic == "channel" else self._of_probe(*key)
            if known is None:
                return float("nan")
            self._values[key] = known
        return self._values[key]

    def _of_probe(self, place: FeatureKey, statistic: str) -> float | None:
        test = set(self.table.loc[self.table["split"] == "test", "hash"])
        if not self._cache(place).held() >= test:
            return None
        scores = self.predictions(place)
        return getattr(metrics, statistic)(scores["score"], scores["mos"])

    def _of_channel(self, place: FeatureKey) -> float | None:
        if not all(self.store.has(place.timestep, tap) for tap in place.taps):
            return None
        return float(self._best(place)["srcc"])

    def _cache(self, place: FeatureKey, what: str = "standardised ridge") -> RowCache:
        key = {
            **self.store.key,
            "probe": what,
            "timestep": place.timestep,
            "taps": list(place.taps),
            "poolings": list(place.poolings),
            "labels": self._labels,
        }
        return RowCache("probes", key)
