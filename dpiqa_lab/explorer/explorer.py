"""The explorer without its widgets: the chosen view, and its tables computed from the cache."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import metrics
from ..core.device import choose_compute
from ..core.errors import LabError, unknown
from ..core.progress import progress_bar
from ..datasets.dataset import QualityDataset, load_dataset
from ..datasets.dataset_config import DatasetConfig
from ..diffusion.attention_maps import attention_maps_of
from ..diffusion.backbone import Backbone
from ..diffusion.loading import load_backbone
from ..diffusion.prompts import FACTORS
from ..diffusion.taps import FeatureTaps, block_taps
from ..probing.features import Features, FeatureStore, extract_features
from .explore_config import ALL, ExploreConfig
from .probes import Column, FeatureKey, Probes

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_DATASET = tuple(field.name for field in dataclasses.fields(DatasetConfig))
_BACKBONE = ("backbone", "revision", "random_weights")
_STORE = (*_DATASET, *_BACKBONE, "prompts", "noise_seed", "device", "precision")


class Explorer:
    """A dataset seen through a backbone's features, one view at a time.

    Everything is read from the cache; only ``compute`` makes U-Net passes.

    Args:
        config: resolved.

    Attributes:
        config: the view. dataset, backbone, store: opened as it says. probes: fitted on the store.

    Raises:
        LabError: see ``load_dataset`` and ``load_backbone``.
    """

    config: ExploreConfig
    dataset: QualityDataset
    backbone: Backbone
    store: FeatureStore

    def __init__(self, config: ExploreConfig) -> None:
        self._open(config, None)

    def choose(self, **changes: object) -> None:
        """Change fields of ``ExploreConfig``; after a LabError the view is unchanged."""
        self._open(self.config.but(**changes), self.config)

    def _open(self, config: ExploreConfig, current: ExploreConfig | None) -> None:
        def same(names: tuple[str, ...]) -> bool:
            return current is not None and all(
                getattr(config, name) == getattr(current, name) for name in names
            )

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
        assert config.image_size is not None  # resolved
        backbone.check_size(config.image_size, config.image_size)
        store = FeatureStore(backbone, dataset, config.prompts, config.noise_seed, None, compute)
        self.compute_on, self.dataset, self.backbone, self.store = compute, dataset, backbone, store
        self.config = config
        self.probes = Probes(store, dataset.table)

    @property
    def taps(self) -> tuple[str, ...]:
        """Module paths of the chosen layers."""
        assert self.config.taps is not None  # see _with_taps
        return self.config.taps

    @property
    def timestep(self) -> int:
        """The timestep shown."""
        assert self.config.timestep is not None  # resolved
        return self.config.timestep

    def coverage(self) -> pd.DataFrame:
        """Which of the chosen timesteps (rows) and taps (columns) are in the cache."""
        timesteps, taps = list(self.config.timesteps), list(self.taps)
        rows = [[self.store.has(t, tap) for tap in taps] for t in timesteps]
        return pd.DataFrame(rows, index=timesteps, columns=taps)

    def ready(self) -> bool:
        """Whether the features of the current timestep and tap are in the cache."""
        key = self.place()
        return all(self.store.has(key.timestep, tap) for tap in key.taps)

    def compute(self) -> None:
        """Extract missing features of the chosen timesteps and taps, and fit their probes.

        Finished batches stay in the cache after an interruption.
        """
        config = self.config
        extract_features(
            self.backbone,
            self.dataset,
            config.timesteps,
            self.taps,
            config.prompts,
            config.noise_seed,
            compute=self.compute_on,
            batch_size=config.batch_size,
        )
        keys = [self.place(t, tap) for t in config.timesteps for tap in (*self.taps, ALL)]
        for key in progress_bar(keys, "fitting probes"):
            self.probes.predictions(key)
            self.probes.best(key)

    # Delegates to ``Probes``, for the view's timestep and tap unless given

    def features(self, timestep: int | None = None, tap: str | None = None) -> Features:
        """See ``Probes``. LabError where they are not computed."""
        return self.probes.features(self.place(timestep, tap))

    def columns(self, timestep: int | None = None, tap: str | None = None) -> np.ndarray:
        """Concatenated features, (n, k) float64."""
        return self.probes.columns(self.place(timestep, tap))

    def column_names(self) -> list[Column]:
        """What each of the view's ``columns`` is."""
        return self.probes.column_names(self.place())

    def predictions(self, timestep: int | None = None, tap: str | None = None) -> pd.DataFrame:
        """The probe's test scores: name, path, mos, split, score, group where known."""
        return self.probes.predictions(self.place(timestep, tap))

    def fitted(self, timestep: int | None = None, tap: str | None = None) -> "Pipeline":
        """The probe's regression."""
        return self.probes.fitted(self.place(timestep, tap))

    def overview(self) -> pd.DataFrame:
        """The chosen statistic for each chosen timestep and tap: timestep, tap, value."""
        statistic = self.config.statistic
        taps = self.taps if statistic == "channel" else (*self.taps, ALL)
        rows = [
            {
                "timestep": timestep,
                "tap": tap,
                "value": self.probes.value(self.place(timestep, tap), statistic),
            }
            for tap in taps
            for timestep in self.config.timesteps
        ]
        return pd.DataFrame(rows)

    def measured(self) -> dict:
        """n, srcc and plcc of the view's test points; 95% intervals as srcc_ci and plcc_ci."""
        points = self.points()
        points = points[points["split"] == "test"]
        x, mos = points["x"], points["mos"]
        values = {"n": len(points), "srcc": metrics.srcc(x, mos), "plcc": metrics.plcc(x, mos)}
        intervals = metrics.bootstrap(x, mos, groups=points.get("group"))
        return values | {f"{name}_ci": interval for name, interval in intervals.items()}

    def channel(self) -> int:
        """Column shown: chosen, or the one that correlates best with MOS outside test."""
        chosen = self.config.channel
        if chosen is None:
            return self.probes.best(self.place())
        if chosen >= (count := self.columns().shape[1]):
            raise LabError(f"channel {chosen}: this view has {count}, from 0.")
        return chosen

    def points(self) -> pd.DataFrame:
        """Points of the scatter: name, path, mos, split, x, group where known.

        ``x``: the probe's score (test photographs), or one channel's feature (all photographs).
        """
        if self.config.plot == "score":
            return self.predictions().rename(columns={"score": "x"})
        table = self.dataset.table
        group = [name for name in ("group",) if name in table]
        return table[["name", "path", "mos", "split", *group]].assign(
            x=self.columns()[:, self.channel()]
        )

    def photograph(self) -> str:
        """Name of the photograph shown: chosen, or the test one with the largest error."""
        if self.config.photograph is not None:
            self.position(self.config.photograph)
            return self.config.photograph
        table = self.predictions()
        return table.loc[(table["score"] - table["mos"]).abs().idxmax(), "name"]

    def position(self, name: str) -> int:
        """Row of a photograph in the dataset's table. Raises LabError for an unknown name."""
        found = np.flatnonzero(self.dataset.table["name"] == name)
        if not len(found):
            raise LabError(f"no photograph {name!r} in {self.dataset.manifest.spec.title}.")
        return int(found[0])

    def place(self, timestep: int | None = None, tap: str | None = None) -> FeatureKey:
        """Key of the view's features, or of those asked for; ``ALL`` is all chosen taps."""
        tap = tap or self.config.tap
        taps = self.taps if tap == ALL else (tap,)
        timestep = self.timestep if timestep is None else timestep
        return FeatureKey(timestep, taps, self.config.poolings)


def _with_taps(config: ExploreConfig, backbone: Backbone) -> ExploreConfig:
    """``config`` with its taps resolved. Raises LabError where the backbone lacks one of them."""
    taps = config.taps or tuple(block_taps(backbone.unet, down=False))
    with attention_maps_of(backbone, taps, config.prompts, FACTORS):
        FeatureTaps(backbone.unet, taps)  # refuses unknown names
    if config.tap not in (*taps, ALL):
        raise unknown("tap", config.tap, [*taps, ALL])
    return dataclasses.replace(config, taps=taps)
