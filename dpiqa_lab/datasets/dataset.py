"""Datasets: photographs and scores by position."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import unknown
from ..core.identity import Inputs
from .images import read_image, to_tensor
from .manifests import Manifest, load_manifest
from .split_schemes import SPLITS


class QualityDataset(Sequence[dict]):
    """``ds[i]`` is a dict: image (3, H, W) float32 in [0,1], mos float in [0,1], name str.

    Attributes:
        manifest: source of the photographs and scores.
        table: the manifest's rows of this split.
        image_size: side of the square to which images are resized; ``None``: original sizes.
    """

    def __init__(
        self, manifest: Manifest, split: str = "all", image_size: int | None = None
    ) -> None:
        if split not in (*SPLITS, "all"):
            raise unknown("split", split, [*SPLITS, "all"])
        table = manifest.table
        self.manifest = manifest
        self.split = split
        self.table = (table if split == "all" else table[table["split"] == split]).reset_index(
            drop=True
        )
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> dict:  # type: ignore[override]  # slices are not supported
        row = self.table.iloc[i]
        image = to_tensor(read_image(row["path"], self.image_size))
        return {"image": image, "mos": float(row["mos"]), "name": row["name"]}

    def __repr__(self) -> str:
        spec = self.manifest.spec
        size = self.image_size or "own"
        return (
            f"{spec.title} ({self.split}): {len(self)} photographs, size {size}, scores "
            f"{self.manifest.scale} as mos in [0,1]; {self.manifest.split}"
        )

    def content(self) -> pd.DataFrame:
        """All images of the dataset, in any split: name, sha256 of the file, mos, split, group."""
        table = self.manifest.table.rename(columns={"hash": "sha256"})
        return table[[n for n in ("name", "sha256", "mos", "split", "group") if n in table]]

    def inputs(self, models: Mapping[str, dict] | None = None) -> Inputs:
        """This dataset and ``models`` as the inputs of a run."""
        return Inputs(self.content(), models or {}, [repr(self), *self.manifest.notes])

    def in_split(self, split: str) -> "QualityDataset":
        """The images of one split of the same dataset: train, val, test or all."""
        return QualityDataset(self.manifest, split, self.image_size)

    def sample(self, n: int, seed: int = 0) -> "QualityDataset":
        """``n`` images drawn by ``seed``, in their order; all if there are no more.

        Train, val and test keep their proportions. Larger samples contain the smaller ones.
        """
        if n >= len(self):
            return self
        shuffled = self.table.sample(frac=1, random_state=seed)
        splits = shuffled.groupby("split")["split"]
        quantile = splits.cumcount() / splits.transform("size")
        chosen = quantile.sort_values(kind="stable").index[:n]
        note = f"{n:,} of {len(self):,} photographs, drawn by seed {seed}"
        manifest = dataclasses.replace(
            self.manifest,
            table=self.table.loc[chosen].sort_index().reset_index(drop=True),
            notes=(*self.manifest.notes, note),
        )
        return QualityDataset(manifest, self.split, self.image_size)


def load_dataset(
    name: str,
    root: Path | str | None = None,
    split: str = "all",
    image_size: int | None = None,
    **options: Any,  # noqa: ANN401 - checked by load_manifest
) -> QualityDataset:
    """A dataset by name.

    Args:
        name: "demo", "koniq", "clive", "livefb", "spaq", "biq2021", "kadid10k", "tid2013", or
            "folder" for your own.
        root: the dataset's folder; ``None`` is ``data/<name>``.
        split: "train", "val", "test" or "all".
        image_size: side in pixels of the square to which images are resized; ``None`` keeps their
            sizes.
        options: any of
            split_scheme: definition of train, val and test: "auto", "official", "random",
                "random-3" or a CSV file with the columns name and split.
            split_seed: seed of a random split.
            on_bad_image: "error" lists all missing or unreadable images and stops; "skip"
                leaves them out and records them.
            mos_range: ends of the score scale, as (1, 5). lower_better: whether a lower score
                means better quality.
            labels, name_column, mos_column, group_column: for "folder": its CSV, and the columns
                of file names, scores, and groups that must stay in one split.
            keep_training_images: for "clive": keep the 7 images used to train its subjects.

    Raises:
        LabError: any problem with the labels or the images.
    """
    split_scheme = options.pop("split_scheme", "auto")
    return QualityDataset(load_manifest(name, root, split_scheme, **options), split, image_size)
