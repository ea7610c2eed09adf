"""Photographs by position, with or without scores: what needs no dataset around it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ..core.errors import LabError, listing
from ..core.paths import user_path
from .image_index import build_image_index
from .images import SUFFIXES
from .sources import as_utf8


@dataclass(frozen=True)
class ImageSet:
    """Rows of photographs and the side that each is squashed to, in pixels.

    table: name, path, hash of the file, and mos in [0,1], NaN where there is none; subset where the
    dataset has subsets.
    """

    table: pd.DataFrame
    image_size: int

    def __len__(self) -> int:
        return len(self.table)

    def groups(self) -> torch.Tensor:
        """(n,) int64: the number of each one's subset; -1 where it has none."""
        if "subset" not in self.table:
            return torch.full((len(self),), -1)
        return torch.from_numpy(pd.factorize(self.table["subset"])[0].astype(np.int64))


def unlabelled_photographs(folder: str, on_bad_image: str, known: set[str]) -> pd.DataFrame:
    """A folder's photographs and those of its sub-folders, as ``Photographs.table`` has them.

    Args:
        on_bad_image: "error" lists unreadable ones and stops, "skip" leaves them out.
        known: hashes of photographs to leave out, as those of a dataset's test part. Of equal
            files one is taken.

    Raises:
        LabError: no such folder, unreadable photographs, or none left.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise LabError(f"unlabelled: no folder {root}; give a folder of photographs.")
    found = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    paths = sorted(found)
    looks = build_image_index(paths, root)
    bad = looks["error"] != ""
    if bad.any() and on_bad_image == "error":
        raise LabError(
            f"unlabelled: {bad.sum()} of {len(paths)} photographs in {root} cannot be used; mend "
            f"them, or on_bad_image='skip':\n{listing(looks.error[bad])}"
        )
    table = pd.DataFrame(
        {
            "name": [as_utf8(str(path.relative_to(root))) for path in paths],
            "path": paths,
            "hash": looks["hash"],
            "mos": np.nan,
        }
    )
    table = table[~bad & ~table["hash"].isin(known)].drop_duplicates("hash")
    if not len(table):
        raise LabError(
            f"unlabelled: {root} holds no photograph that is not in the dataset already "
            f"({len(paths)} files looked at)."
        )
    return table.reset_index(drop=True)
