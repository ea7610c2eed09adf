"""Linear probes on cached features: each combination is fitted once and memoized."""

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

_MEMORY = (
    1_000_000_000  # bytes of features in memory; Stable Diffusion's: 40 kB per tap and photograph
)


class FeatureKey(NamedTuple):
    """A combination of features: taps of one timestep, pooled and concatenated."""

    timestep: int
    taps: tuple[str, ...]
    poolings: tuple[str, ...]


class Column(NamedTuple):
    """One feature; ``quarter`` (0 to 3, row by row) where it is the mean of one."""

    tap: str
    pooling: str
    channel: int
    quarter: int | None

    def __str__(self) -> str:
        quarter = "" if self.quarter is None else f" {self.quarter + 1}"
        return f"{self.tap}, {self.pooling}{quarter} of channel {self.channel}"


class Probes:
    """Features and probes of one store, by ``FeatureKey``; nothing is extracted here.

    Methods raise LabError where they need features that are not in the cache.

    Args:
        store: the features. table: of the same dataset, with ``mos`` and ``split``.
    """

    def __init__(self, store: FeatureStore, table: pd.DataFrame) -> None:
        self.store = store
        self.table = table
        labels = [list(table["hash"]), list(table["mos"]), list(table["split"])]
        self._labels = json_hash(labels)
        self._features: dict[tuple[int, str], Rows] = {}
        self._fits: dict[FeatureKey, Pipeline] = {}
        self._values: dict[tuple[FeatureKey, str], float] = {}
        self._best_channels: dict[FeatureKey, Rows] = {}
        self._columns: tuple[FeatureKey, np.ndarray] | None = None  # of the last request

    def features(self, place: FeatureKey) -> Features:
        """Pooled features of the taps, with the dataset's table."""
        rows = {}
        for tap in place.taps:
            key = place.timestep, tap
            if key not in self._features:
                self._features[key] = self.store.load(*key)
            rows[key] = self._features[key]
        for key in [key for key in self._features if key not in rows]:  # evict the oldest
            if self._bytes() <= _MEMORY:
                break
            del self._features[key]
        return Features(rows, self.table)

    def _bytes(self) -> int:
        return sum(x.nbytes for rows in self._features.values() for x in rows.values())

    def columns(self, place: FeatureKey) -> np.ndarray:
        """Concatenated features, (n, k) float64: the probe's input."""
        if self._columns is None or self._columns[0] != place:
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
        """The probe's test scores: name, path, mos, split, score, group where known.

        Cached on disk, so that a known combination needs no fit.
        """
        table = self.table
        group = [name for name in ("group",) if name in table]
        test = table.loc[table["split"] == "test", ["name", "path", "mos", "split", "hash", *group]]

        def predict(positions: object) -> Rows:
            x = self.columns(place)[test.index[positions]]
            return {"score": torch.from_numpy(self.fitted(place).predict(x))}

        rows = self._cache(place).rows(list(test["hash"]), predict, batch_size=len(test))
        scored = test.drop(columns="hash").assign(score=rows["score"].numpy())
        return scored.reset_index(drop=True)

    def fitted(self, place: FeatureKey) -> "Pipeline":
        """The fitted regression, see ``fit_probe``."""
        if place not in self._fits:
            model, x = fit_probe(self.features(place), poolings=place.poolings)
            self._fits[place], self._columns = model, (place, x)
        return self._fits[place]

    def best(self, place: FeatureKey) -> int:
        """The column that correlates best with MOS outside the test split; cached on disk."""
        return int(self._best(place)["column"])

    def _best(self, place: FeatureKey) -> Rows:
        """``column``, and ``srcc``: its absolute value on the test split."""
        if place not in self._best_channels:
            test = (self.table["split"] == "test").to_numpy()
            mos = self.table["mos"].to_numpy()

            def find(_: object) -> Rows:
                x = self.columns(place)
                column = int(np.nanargmax(np.abs(spearman_columns(x[~test], mos[~test]))))
                srcc = abs(metrics.srcc(x[test, column], mos[test]))
                return {
                    "column": torch.tensor([column]),
                    "srcc": torch.tensor([srcc], dtype=torch.float64),
                }

            cache = self._cache(place, "best channel")
            self._best_channels[place] = cache.rows(["best"], find)
        return self._best_channels[place]

    def value(self, place: FeatureKey, statistic: str) -> float:
        """One of ``STATISTICS`` on the test split; "channel" is that of ``best``.

        NaN where it is not computed yet: this neither extracts features nor fits probes.
        """
        key = place, statistic
        if key not in self._values:
            channel = statistic == "channel"
            value = self._channel_value(place) if channel else self._probe_value(*key)
            if value is None:
                return float("nan")
            self._values[key] = value
        return self._values[key]

    def _probe_value(self, place: FeatureKey, statistic: str) -> float | None:
        test = set(self.table.loc[self.table["split"] == "test", "hash"])
        if not self._cache(place).held() >= test:
            return None
        scores = self.predictions(place)
        return getattr(metrics, statistic)(scores["score"], scores["mos"])

    def _channel_value(self, place: FeatureKey) -> float | None:
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
