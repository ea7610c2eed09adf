"""The explorer without its widgets: what is chosen, and the tables that follow from the cache."""

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from .. import metrics
from ..core.cache import RowCache
from ..core.device import choose_compute
from ..core.errors import LabError, unknown
from ..core.files import json_hash
from ..core.progress import progress_bar
from ..datasets.config import DatasetConfig
from ..datasets.dataset import load_dataset
from ..diffusion.attention_maps import attention_maps_of
from ..diffusion.backbone import Backbone
from ..diffusion.loading import load_backbone
from ..diffusion.prompts import FACTORS
from ..diffusion.taps import FeatureTaps, block_taps
from ..probing.correlations import spearman_columns
from ..probing.features import Features, FeatureStore, extract_features
from ..probing.probe import fit_probe, joined
from .explore_config import ALL, ExploreConfig

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_DATASET = tuple(DatasetConfig.__dataclass_fields__)
_BACKBONE = ("backbone", "revision", "random_weights")
_STORE = (*_DATASET, *_BACKBONE, "prompts", "noise_seed", "device", "precision")
_MEMORY = 1_000_000_000  # bytes of features kept; Stable Diffusion's: 40 kB a tap and photograph


class Column(NamedTuple):
    """One feature; ``quarter`` (0 to 3, by rows) where it is the mean of one."""

    tap: str
    pooling: str
    channel: int
    quarter: int | None

    def __str__(self) -> str:
        part = "" if self.quarter is None else f" {self.quarter + 1}"
        return f"{self.tap}, {self.pooling}{part} of channel {self.channel}"


class Explorer:
    """A dataset seen through a backbone's features, one view at a time.

    Everything is read from the cache; ``compute`` alone makes U-Net passes.

    Args:
        config: resolved.

    Attributes:
        config: the view. dataset, backbone: what it opened.

    Raises:
        LabError: see ``load_dataset`` and ``load_backbone``.
    """

    def __init__(self, config: ExploreConfig):
        self.config = None
        self._open(config)

    def choose(self, **changes) -> None:
        """Change the view by the fields of ``ExploreConfig``; after a LabError it is as before."""
        self._open(self.config.but(**changes))

    def _open(self, config: ExploreConfig) -> None:
        def same(names):
            return self.config and all(getattr(config, n) == getattr(self.config, n) for n in names)

        if same(_STORE):
            self.config = _with_taps(config, self.backbone)
            return
        compute = choose_compute(config.device, config.precision)
        if same(_DATASET):
            dataset = self.dataset
        else:
            dataset = load_dataset(config.dataset, **config.dataset_options())
        if same(_BACKBONE):
            backbone = self.backbone
        else:
            backbone = load_backbone(config.backbone, config.random_weights, config.revision)
        config = _with_taps(config, backbone)
        backbone.check_size(config.image_size, config.image_size)
        store = FeatureStore(backbone, dataset, config.prompts, config.noise_seed, None, compute)
        self.compute_on, self.dataset, self.backbone, self.store = compute, dataset, backbone, store
        self.config = config
        self._features, self._fits, self._values, self._best_columns = {}, {}, {}, {}
        self._columns = None, None  # the last ones asked for

    # What is there

    def coverage(self) -> pd.DataFrame:
        """Which of the chosen timesteps (rows) and taps (columns) are in the cache."""
        config = self.config
        rows = [[self.store.has(t, tap) for tap in config.taps] for t in config.timesteps]
        return pd.DataFrame(rows, index=list(config.timesteps), columns=list(config.taps))

    def ready(self) -> bool:
        """Whether the features of the view itself are."""
        timestep, taps = self.place()
        return all(self.store.has(timestep, tap) for tap in taps)

    def compute(self) -> None:
        """Extract what the chosen timesteps and taps lack, and fit their probes.

        Interrupted, also by ``progress.watched``, it keeps what is done.
        """
        config = self.config
        extract_features(
            self.backbone,
            self.dataset,
            config.timesteps,
            config.taps,
            config.prompts,
            config.noise_seed,
            compute=self.compute_on,
            batch_size=config.batch_size,
        )
        places = [(t, tap) for t in config.timesteps for tap in (*config.taps, ALL)]
        for place in progress_bar(places, "fitting probes"):
            self.predictions(*place)

    # The probe

    def features(self, timestep: int | None = None, tap: str | None = None) -> Features:
        """Of the view, or of another timestep and tap. LabError where they are not computed."""
        timestep, taps = self.place(timestep, tap)
        rows = {}
        for name in taps:
            place = timestep, name
            if place not in self._features:
                self._features[place] = self.store.load(*place)
            rows[place] = self._features[place]
        for place in [place for place in self._features if place not in rows]:  # oldest first
            if self._bytes() <= _MEMORY:
                break
            del self._features[place]
        return Features(rows, self.dataset.table)

    def _bytes(self) -> int:
        return sum(part.nbytes for rows in self._features.values() for part in rows.values())

    def columns(self, timestep: int | None = None, tap: str | None = None) -> np.ndarray:
        """Features side by side, (n, k) float64: what the probe is fed."""
        place = self._joined_place(timestep, tap)
        if self._columns[0] != place:
            features = self.features(timestep, tap)
            self._columns = place, joined(features, poolings=self.config.poolings)
        return self._columns[1]

    def _joined_place(self, timestep: int | None, tap: str | None) -> tuple:
        timestep, taps = self.place(timestep, tap)
        return timestep, tuple(taps), self.config.poolings

    def column_names(self) -> list[Column]:
        """What each of the ``columns`` is."""
        features = self.features()
        return [
            Column(tap, pooling, *(divmod(i, 4) if pooling == "grid" else (i, None)))
            for tap in features.taps
            for pooling in self.config.poolings
            for i in range(features[self.config.timestep, tap, pooling].shape[1])
        ]

    def predictions(self, timestep: int | None = None, tap: str | None = None) -> pd.DataFrame:
        """The probe's scores of the test part: name, path, mos, split, score, group where known.

        Kept on disk, so that a view seen before needs no fit.
        """
        timestep, taps = self.place(timestep, tap)
        table = self.dataset.table
        kept = [name for name in ("group",) if name in table]
        test = table.loc[table["split"] == "test", ["name", "path", "mos", "split", "hash", *kept]]
        cache = self._probe_cache(timestep, taps)

        def predict(positions):
            x = self.columns(timestep, tap)[test.index[positions]]
            return {"score": torch.from_numpy(self.fitted(timestep, tap).predict(x))}

        scores = cache.rows(list(test["hash"]), predict, batch_size=len(test))["score"]
        return test.drop(columns="hash").assign(score=scores.numpy()).reset_index(drop=True)

    def fitted(self, timestep: int | None = None, tap: str | None = None) -> "Pipeline":
        """The probe's regression, see ``fit_probe``."""
        place = self._joined_place(timestep, tap)
        if place not in self._fits:
            features = self.features(timestep, tap)
            model, x = fit_probe(features, poolings=self.config.poolings)
            self._fits[place], self._columns = model, (place, x)
        return self._fits[place]

    def _probe_cache(self, timestep: int, taps: list[str]) -> RowCache:
        table = self.dataset.table
        labels = [list(table["hash"]), list(table["mos"]), list(table["split"])]
        key = {
            **self.store.key,
            "probe": "standardised ridge",
            "timestep": timestep,
            "taps": taps,
            "poolings": list(self.config.poolings),
            "labels": json_hash(labels),
        }
        return RowCache("probes", key)

    def overview(self) -> pd.DataFrame:
        """The chosen statistic for each chosen timestep and tap: timestep, tap, value.

        On the test part; the best channel is the best on the others. NaN where it is not computed
        yet: this neither extracts nor fits.
        """
        taps = self.config.taps if self.config.statistic == "channel" else (*self.config.taps, ALL)
        rows = [
            {"timestep": timestep, "tap": tap, "value": self._value(timestep, tap)}
            for tap in taps
            for timestep in self.config.timesteps
        ]
        return pd.DataFrame(rows)

    def _value(self, timestep: int, tap: str) -> float:
        statistic = self.config.statistic
        place = *self._joined_place(timestep, tap), statistic
        if place not in self._values:
            known = self._channel_value if statistic == "channel" else self._probe_value
            value = known(timestep, tap)
            if value is None:
                return float("nan")
            self._values[place] = value
        return self._values[place]

    def _probe_value(self, timestep: int, tap: str) -> float | None:
        table = self.dataset.table
        test = set(table.loc[table["split"] == "test", "hash"])
        if not self._probe_cache(*self.place(timestep, tap)).held() >= test:
            return None
        scores = self.predictions(timestep, tap)
        return getattr(metrics, self.config.statistic)(scores["score"], scores["mos"])

    def _channel_value(self, timestep: int, tap: str) -> float | None:
        if not self.store.has(timestep, tap):
            return None
        test = (self.dataset.table["split"] == "test").to_numpy()
        best = self.columns(timestep, tap)[test, self._best(timestep, tap)]
        return abs(metrics.srcc(best, self.dataset.table["mos"][test]))

    def _best(self, timestep: int | None = None, tap: str | None = None) -> int:
        """The column that goes best with MOS outside the test part."""
        place = self._joined_place(timestep, tap)
        if place not in self._best_columns:
            rest = (self.dataset.table["split"] != "test").to_numpy()
            x = self.columns(timestep, tap)[rest]
            found = spearman_columns(x, self.dataset.table["mos"][rest].to_numpy())
            self._best_columns[place] = int(np.nanargmax(np.abs(found)))
        return self._best_columns[place]

    def measured(self) -> dict:
        """n, srcc and plcc of the view's test points; 95% intervals as srcc_ci and plcc_ci."""
        points = self.points()
        points = points[points["split"] == "test"]
        x, mos = points["x"], points["mos"]
        found = {"n": len(points), "srcc": metrics.srcc(x, mos), "plcc": metrics.plcc(x, mos)}
        intervals = metrics.bootstrap(x, mos, groups=points.get("group"))
        return found | {f"{name}_ci": interval for name, interval in intervals.items()}

    # Photographs

    def channel(self) -> int:
        """The column shown: the chosen one, or the one that goes best with MOS outside test."""
        chosen = self.config.channel
        if chosen is None:
            return self._best()
        if chosen >= (count := self.columns().shape[1]):
            raise LabError(f"channel {chosen}: this view has {count}, from 0.")
        return chosen

    def points(self) -> pd.DataFrame:
        """What the scatter shows: name, path, mos, split, x, group where known.

        ``x``: the probe's score (test part), or the feature of one channel (all photographs).
        """
        if self.config.plot == "score":
            return self.predictions().rename(columns={"score": "x"})
        table = self.dataset.table
        kept = [name for name in ("group",) if name in table]
        return table[["name", "path", "mos", "split", *kept]].assign(
            x=self.columns()[:, self.channel()]
        )

    def photograph(self) -> str:
        """The name of the one shown: the chosen one, or the test one judged most wrongly."""
        if self.config.photograph is not None:
            self.position(self.config.photograph)
            return self.config.photograph
        table = self.predictions()
        return table.loc[(table["score"] - table["mos"]).abs().idxmax(), "name"]

    def position(self, name: str) -> int:
        """Place of a photograph in the dataset. Raises LabError for a name it has not."""
        found = np.flatnonzero(self.dataset.table["name"] == name)
        if not len(found):
            raise LabError(f"no photograph {name!r} in {self.dataset.manifest.spec.title}.")
        return int(found[0])

    def place(self, timestep: int | None = None, tap: str | None = None) -> tuple[int, list[str]]:
        """Timestep and taps of the view, or as asked for; ``ALL`` is all chosen taps."""
        tap = tap or self.config.tap
        timestep = self.config.timestep if timestep is None else timestep
        return timestep, list(self.config.taps) if tap == ALL else [tap]


def _with_taps(config: ExploreConfig, backbone: Backbone) -> ExploreConfig:
    """``config`` with taps that the backbone has, of which the one shown is one, or LabError."""
    taps = config.taps or tuple(block_taps(backbone.unet, down=False))
    with attention_maps_of(backbone, taps, config.prompts, FACTORS):
        FeatureTaps(backbone.unet, taps)  # refuses unknown names
    if config.tap not in (*taps, ALL):
        raise unknown("tap", config.tap, [*taps, ALL])
    return dataclasses.replace(config, taps=taps)
