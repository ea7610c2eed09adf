"""The explorer without its widgets: what is chosen, and the tables that follow from the cache."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import metrics
from ..core.device import choose_compute
from ..core.errors import LabError, unknown
from ..core.progress import progress_bar
from ..datasets.dataset import load_dataset
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

_DATASET = tuple(DatasetConfig.__dataclass_fields__)
_BACKBONE = ("backbone", "revision", "random_weights")
_STORE = (*_DATASET, *_BACKBONE, "prompts", "noise_seed", "device", "precision")


class Explorer:
    """A dataset seen through a backbone's features, one view at a time.

    Everything is read from the cache; ``compute`` alone makes U-Net passes.

    Args:
        config: resolved.

    Attributes:
        config: the view. dataset, backbone: what it opened. probes: what is read from both.

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
        self.probes = Probes(store, dataset.table)

    # What is there

    def coverage(self) -> pd.DataFrame:
        """Which of the chosen timesteps (rows) and taps (columns) are in the cache."""
        config = self.config
        rows = [[self.store.has(t, tap) for tap in config.taps] for t in config.timesteps]
        return pd.DataFrame(rows, index=list(config.timesteps), columns=list(config.taps))

    def ready(self) -> bool:
        """Whether the features of the view itself are."""
        place = self.place()
        return all(self.store.has(place.timestep, tap) for tap in place.taps)

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
        places = [self.place(t, tap) for t in config.timesteps for tap in (*config.taps, ALL)]
        for place in progress_bar(places, "fitting probes"):
            self.probes.predictions(place)
            self.probes.best(place)

    # What is read from it, by ``Probes``: of the view, or of another timestep and tap

    def features(self, timestep: int | None = None, tap: str | None = None) -> Features:
        """See ``Probes``, as for all of these. LabError where they are not computed."""
        return self.probes.features(self.place(timestep, tap))

    def columns(self, timestep: int | None = None, tap: str | None = None) -> np.ndarray:
        """Features side by side, (n, k) float64."""
        return self.probes.columns(self.place(timestep, tap))

    def column_names(self) -> list[Column]:
        """What each of the view's ``columns`` is."""
        return self.probes.column_names(self.place())

    def predictions(self, timestep: int | None = None, tap: str | None = None) -> pd.DataFrame:
        """The probe's scores of the test part: name, path, mos, split, score, group where known."""
        return self.probes.predictions(self.place(timestep, tap))

    def fitted(self, timestep: int | None = None, tap: str | None = None) -> "Pipeline":
        """The probe's regression."""
        return self.probes.fitted(self.place(timestep, tap))

    def overview(self) -> pd.DataFrame:
        """The chosen statistic for each chosen timestep and tap: timestep, tap, value."""
        statistic = self.config.statistic
        taps = self.config.taps if statistic == "channel" else (*self.config.taps, ALL)
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
        found = {"n": len(points), "srcc": metrics.srcc(x, mos), "plcc": metrics.plcc(x, mos)}
        intervals = metrics.bootstrap(x, mos, groups=points.get("group"))
        return found | {f"{name}_ci": interval for name, interval in intervals.items()}

    # Photographs

    def channel(self) -> int:
        """The column shown: the chosen one, or the one that goes best with MOS outside test."""
        chosen = self.config.channel
        if chosen is None:
            return self.probes.best(self.place())
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

    def place(self, timestep: int | None = None, tap: str | None = None) -> FeatureKey:
        """Of the view, or as asked for; ``ALL`` is all chosen taps."""
        config, tap = self.config, tap or self.config.tap
        taps = config.taps if tap == ALL else (tap,)
        return FeatureKey(config.timestep if timestep is None else timestep, taps, config.poolings)


def _with_taps(config: ExploreConfig, backbone: Backbone) -> ExploreConfig:
    """``config`` with taps that the backbone has, of which the one shown is one, or LabError."""
    taps = config.taps or tuple(block_taps(backbone.unet, down=False))
    with attention_maps_of(backbone, taps, config.prompts, FACTORS):
        FeatureTaps(backbone.unet, taps)  # refuses unknown names
    if config.tap not in (*taps, ALL):
        raise unknown("tap", config.tap, [*taps, ALL])
    return dataclasses.replace(config, taps=taps)
