"""One interface for runs, tables, functions and baselines that score images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import LabError, listing
from ..core.files import json_hash
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..datasets.scale import label_from, scale_of
from ..models.fingerprint import fingerprint
from ..models.image_scorer import ImageScorer
from .baselines import BASELINES

# Images per call: an interruption loses at most these.
_BATCH = 64


class Scorer:
    """A model under evaluation.

    Attributes:
        name: label in tables and figures.
        trained_on: label of its training dataset, see ``label_of``; empty if unknown.
        batch: images per call; ``None``: all.
        sees_pixels: whether it can score new images.
    """

    trained_on = ""
    batch: int | None = _BATCH
    sees_pixels = True

    def __init__(self, name: str) -> None:
        self.name = name

    def key(self, dataset: QualityDataset) -> dict | None:  # noqa: ARG002 - interface
        """Everything but the image that scores depend on; ``None``: unknown, not cached."""
        return None

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:
        """Scores (n,) of ``photographs``, higher is better; baselines are fitted to ``dataset``."""
        raise NotImplementedError

    def release(self) -> None:
        """Free memory, after the last image of a dataset."""

    def scale(self, dataset: QualityDataset) -> str:  # noqa: ARG002 - interface
        """Scale of the scores: "same" as the dataset's, an "other" dataset's, or its "own"."""
        return "own"

    def notes(self, dataset: QualityDataset, photographs: QualityDataset) -> list[str]:  # noqa: ARG002 - interface
        """Caveats for results on these images."""
        if self.scale(dataset) == "own":
            return ["scores on a scale of their own: raw PLCC and RMSE say little"]
        return []


class ModelScorer(Scorer):
    """A model with ``score(photographs)``, and the run that trained it, if any.

    ``load`` is called for the key, and again when scores are not cached, so that one of many
    models is in memory at a time.
    """

    def __init__(
        self, name: str, load: Callable[[], Any], run: Run | None = None, device: str = "auto"
    ) -> None:
        super().__init__(name)
        self.load, self.device = load, device
        self._model: Any = None
        self.config = run.config if run else {}
        if "dataset" in self.config:
            self.trained_on = label_from(self.config["dataset"], self.config.get("data_root"))
        self.splits = run.splits() if run else None
        model = load()
        # Models of other types cannot be fingerprinted.
        self._key = {"model": fingerprint(model)} if isinstance(model, ImageScorer) else None

    def key(self, dataset: QualityDataset) -> dict | None:  # noqa: ARG002 - interface
        """See ``Scorer``: the weights' fingerprint."""
        return self._key

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:  # noqa: ARG002 - interface
        """See ``Scorer``."""
        self._model = self._model or self.load()
        return self._model.score(list(photographs.table["path"]), device=self.device)

    def release(self) -> None:
        """See ``Scorer``."""
        self._model = None

    def scale(self, dataset: QualityDataset) -> str:
        """See ``Scorer``."""
        if not self.trained_on:
            return "own"
        theirs = scale_of(self.config)
        alike = theirs is None or theirs.agrees(dataset.manifest.scale)
        return "same" if alike and self.trained_on == label_of(dataset) else "other"

    def notes(self, dataset: QualityDataset, photographs: QualityDataset) -> list[str]:
        """See ``Scorer``; includes overlap with its training images."""
        found = super().notes(dataset, photographs)
        if self.scale(dataset) == "other":
            theirs, here = scale_of(self.config), dataset.manifest.scale
            found.append(
                f"scores on the scale of {self.trained_on}{f', {theirs}' if theirs else ''}, MOS "
                f"on that of {here.of}, {here}: raw PLCC and RMSE compare two scales"
            )
        if self.splits is not None and self.trained_on == label_of(dataset):
            used = self.splits.reindex(photographs.table["name"])
            for split, use in (("train", "trained on"), ("val", "its checkpoint chosen on")):
                if count := int((used == split).sum()):
                    found.append(f"{use} {count} of these photographs: not a test")
        return found


class FunctionScorer(Scorer):
    """A function from a list of paths to scores, higher is better.

    Scores are cached only if it has an attribute ``cache_key`` (JSON) that identifies it.
    """

    def __init__(self, name: str, function: Callable[[list[Path]], Sequence[float]]) -> None:
        super().__init__(name)
        self.function = function

    def key(self, dataset: QualityDataset) -> dict | None:  # noqa: ARG002 - interface
        """See ``Scorer``."""
        own = getattr(self.function, "cache_key", None)
        return None if own is None else {"function": self.name, "cache_key": own}

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:  # noqa: ARG002 - interface
        """See ``Scorer``."""
        return self.function(list(photographs.table["path"]))


class TableScorer(Scorer):
    """Scores computed before: a table with the columns name and score, and optionally mos."""

    batch = None
    sees_pixels = False

    def __init__(self, name: str, table: pd.DataFrame, run: Run | None = None) -> None:
        super().__init__(name)
        missing = {"name", "score"} - set(table)
        if missing:
            raise LabError(f"predictions of {name} have no column {', '.join(sorted(missing))}.")
        self.table = table.drop_duplicates("name").set_index("name")
        if run and "dataset" in run.config:
            self.trained_on = label_from(run.config["dataset"], run.config.get("data_root"))

    def key(self, dataset: QualityDataset) -> dict | None:
        """See ``Scorer``."""
        return {"table": json_hash(self.table["score"].to_dict()), "dataset": label_of(dataset)}

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:
        """See ``Scorer``.

        Raises LabError for images of another dataset, without a score, or with another MOS.
        """
        wanted = photographs.table
        if self.trained_on and self.trained_on != label_of(dataset):
            raise LabError(f"predictions of {self.name} are of photographs of {self.trained_on}.")
        if missing := [name for name in wanted["name"] if name not in self.table.index]:
            raise LabError(
                f"{self.name} has no score for {len(missing)} of {len(wanted)} photographs; was it "
                f"computed on another split or dataset?\n{listing(missing, 3)}"
            )
        rows = self.table.loc[wanted["name"]]
        if "mos" in rows:
            apart = np.abs(rows["mos"].to_numpy(float) - wanted["mos"].to_numpy(float)) > 1e-6
            if apart.any():
                name = wanted["name"][int(np.argmax(apart))]
                raise LabError(
                    f"{name} has another MOS in the predictions of {self.name} than in "
                    f"{label_of(dataset)}: they are of another dataset or score scale."
                )
        return rows["score"].to_numpy(float)

    def scale(self, dataset: QualityDataset) -> str:
        """See ``Scorer``; ``predict`` checks that MOS agree."""
        return "same" if self.trained_on == label_of(dataset) else super().scale(dataset)


class BaselineScorer(Scorer):
    """One of ``BASELINES``, fitted to train and val of the dataset under test."""

    batch = None  # fitted once per call

    def __init__(self, name: str, baseline: str) -> None:
        super().__init__(name)
        self.baseline = baseline

    def key(self, dataset: QualityDataset) -> dict | None:
        """See ``Scorer``."""
        from .. import __version__

        parts = [dataset.in_split(part).table[["hash", "mos"]] for part in ("train", "val")]
        fitted = json_hash([part.to_numpy().tolist() for part in parts])
        size = dataset.image_size
        return {"baseline": self.baseline, "on": fitted, "image_size": size, "lab": __version__}

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:
        """See ``Scorer``."""
        train, val = dataset.in_split("train"), dataset.in_split("val")
        return BASELINES[self.baseline](train, val, photographs)["predictions"]

    def scale(self, dataset: QualityDataset) -> str:  # noqa: ARG002 - interface
        """See ``Scorer``."""
        return "same"

    def notes(self, dataset: QualityDataset, photographs: QualityDataset) -> list[str]:  # noqa: ARG002 - interface
        """See ``Scorer``."""
        seen = int(photographs.table["split"].isin(("train", "val")).sum())
        return [f"fitted to {seen} of these photographs: not a test"] if seen else []


def label_of(dataset: QualityDataset) -> str:
    """Label of a dataset in tables: its name, or its folder's for "folder" datasets."""
    return dataset.manifest.scale.of
