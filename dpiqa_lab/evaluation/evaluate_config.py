"""Configuration of notebook 05."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from ..core.config import configuration, option
from ..core.device import DEVICES, choose_compute
from ..core.errors import LabError
from ..datasets.dataset import QualityDataset, load_dataset
from ..datasets.dataset_config import DatasetConfig, ReadingConfig
from ..datasets.split_schemes import SPLITS
from .resolve_scorer import QUICK
from .scorers import label_of

_DEFAULT = "-"  # of data_roots: data/<dataset>


@configuration
class EvaluateConfig(ReadingConfig):
    """Parameters of an evaluation. ``mos_range`` and column names apply to "folder" datasets."""

    models: tuple[str, ...] = option(
        ("ridge_on_statistics", "svr_on_naturalness", QUICK),
        "runs, predictions:<run>, baselines, pyiqa:<metric>, quick_teacher",
    )
    datasets: tuple[str, ...] = option(("demo",), "names in data/README.md, or folder")
    data_roots: tuple[str, ...] | None = option(
        None, "folder of each dataset, - for data/<dataset>; None: all there"
    )
    split: str = option("test", "split that is scored", (*SPLITS, "all"))
    max_images: int | None = option(None, "maximum per dataset, drawn by the seed", low=5)
    robustness: int = option(50, "images per dataset that are perturbed; 0: none", low=0)
    resamples: int = option(1000, "of the bootstrap", low=1, high=1_000_000)
    shown: int = option(5, "images per row of the report", low=1)

    seed: int = option(0, "of samples and resamples", low=0)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    # Of the models.
    precision: ClassVar[str] = "float32"  # type: ignore[misc] # not a field here

    def resolve(self) -> "EvaluateConfig":
        """A copy with device, dataset folders and run name.

        Raises:
            LabError: no models or datasets, unknown datasets, or data_roots of another length.
        """
        for name in ("models", "datasets"):
            if not getattr(self, name):
                raise LabError(f"{name} is empty: give at least one.")
        roots = [config.data_root or _DEFAULT for config in self.dataset_configs()]
        device = str(choose_compute(self.device).device)
        found: dict[str, Any] = {"data_roots": tuple(roots), "device": device}
        return dataclasses.replace(self, **found).named()

    def stem(self) -> str:
        """See ``Configuration``."""
        return "-".join(["evaluate", *dict.fromkeys(self.datasets)])

    def dataset_configs(self) -> list[DatasetConfig]:
        """Configuration of each dataset.

        Raises:
            LabError: an unknown dataset, or data_roots of another length than datasets.
        """
        roots = self.data_roots or [_DEFAULT] * len(self.datasets)
        if len(roots) != len(self.datasets):
            raise LabError(
                f"data_roots names {len(roots)} folders for {len(self.datasets)} datasets; give "
                f"one each, {_DEFAULT!r} where it is data/<dataset>."
            )
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(ReadingConfig)}
        result = []
        for name, root in zip(self.datasets, roots, strict=True):
            # mos_range and lower_better apply to "folder" datasets only.
            own: dict[str, object] = (
                {} if name == "folder" else {"mos_range": None, "lower_better": None}
            )
            own["data_root"] = None if root == _DEFAULT else root
            config = DatasetConfig(**{**shared, **own, "dataset": name})
            result.append(dataclasses.replace(config, **config.dataset_defaults()))
        return result

    def load_datasets(self) -> dict[str, QualityDataset]:
        """The datasets by label, with all splits and images.

        Raises:
            LabError: see ``load_dataset``; or labels repeat.
        """
        found: dict[str, QualityDataset] = {}
        for config in self.dataset_configs():
            dataset = load_dataset(config.dataset, **config.dataset_options())
            label = label_of(dataset)
            if label in found:
                where = found[label].manifest.root, Path(dataset.manifest.root)
                raise LabError(f"two datasets are called {label}: {where[0]} and {where[1]}.")
            found[label] = dataset
        return found
