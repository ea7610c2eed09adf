"""One row a dataset: what its release holds, where it comes from and how it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core.errors import unknown
from . import labels
from .demo import PSEUDO_MOS


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a dataset's release.

    Attributes:
        count: labelled photographs in the whole release; ``None`` where any number is right.
        mos_range: ends of the scale of the released scores; scores outside it are refused.
        lower_better: whether a lower released score means better quality.
        tree: the files and folders expected under the root.
        source: how to get it. licence: its terms, in short.
        read: root folder to label table, see ``labels``.
        image_size: side in pixels the photographs are squashed to by default.
        note: said wherever the scores appear.
    """

    name: str
    title: str
    count: int | None
    mos_range: tuple[float, float]
    tree: str
    source: str
    licence: str
    read: Callable[..., pd.DataFrame]
    lower_better: bool = False
    image_size: int = 512
    note: str = ""

    def where(self, root: Path) -> str:
        """How to get the data and where to put it, for messages."""
        tree = "\n".join(f"  {line}" for line in self.tree.splitlines())
        return f"{self.title}: {self.source}\nExpected under {root}:\n{tree}"


_ROWS = [
    DatasetSpec(
        name="demo",
        title="Demo set",
        count=None,
        mos_range=(0, 1),
        tree="images/\nlabels.csv",
        source="made on first use from pictures inside scikit-image and scikit-learn",
        licence="that of the pictures: free to use, see scikit-image and scikit-learn",
        read=labels.demo,
        image_size=256,
        note=PSEUDO_MOS,
    ),
    DatasetSpec(
        name="biq2021",
        title="BIQ2021",
        count=12_000,
        mos_range=(0, 1),
        tree="Images/ss01 (1).jpg …\nTrain (Images and MOS).csv\nTest (Images and MOS).csv",
        source="git clone https://github.com/nisarahmedrana/BIQ2021 (424 MB)",
        licence="see its repository",
        read=labels.biq2021,
    ),
    DatasetSpec(
        name="koniq",
        title="KonIQ-10k",
        count=10_073,
        mos_range=(0, 100),
        tree="1024x768/10004473376.jpg …  (or 512x384/)\nkoniq10k_distributions_sets.csv",
        source="https://database.mmsp-kn.de/koniq-10k-database.html, photographs and scores "
        "(koniq10k_distributions_sets.csv comes with the KonIQ code release)",
        licence="see its page",
        read=labels.koniq,
    ),
    DatasetSpec(
        name="folder",
        title="Your own folder",
        count=None,
        mos_range=(0, 100),
        tree="photographs, in sub-folders or not\none CSV with a column of names and one of scores",
        source="any folder of photographs with a CSV of scores; "
        "name_column, mos_column, mos_range and lower_better describe it",
        licence="yours",
        read=labels.folder,
    ),
]
SPECS = {spec.name: spec for spec in _ROWS}


def get_spec(name: str) -> DatasetSpec:
    """The spec called ``name``.

    Raises:
        LabError: there is none; the message gives the nearest.
    """
    if name not in SPECS:
        raise unknown("dataset", name, SPECS)
    return SPECS[name]
