"""Images by position, with or without scores, independent of a dataset."""

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
    """A table of images and the side in pixels to which they are resized.

    table: name, path, hash of the file, mos in [0,1] or NaN, and subset if the dataset has any.
    """

    table: pd.DataFrame
    image_size: int

    def __len__(self) -> int:
        return len(self.table)

    def groups(self) -> torch.Tensor:
        """(n,) int64: number of each image's subset; -1 without subsets."""
        if "subset" not in self.table:
            return torch.full((len(self),), -1)
        return torch.from_numpy(pd.factorize(self.table["subset"])[0].astype(np.int64))


def unlabelled_photographs(folder: str, on_bad_image: str, known: set[str]) -> pd.DataFrame:
    """Images in a folder and its sub-folders, as in ``ImageSet.table``; equal files once.

    Args:
        on_bad_image: "error" lists unreadable ones and stops, "skip" leaves them out.
        known: hashes of images to leave out, as those of a dataset's test split.

    Raises:
        LabError: no such folder, unreadable images, or none left.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise LabError(f"unlabelled: no folder {root}; give a folder of photographs.")
    found = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    paths = sorted(found)
    index = build_image_index(paths, root)
    bad = index["error"] != ""
    if bad.any() and on_bad_image == "error":
        raise LabError(
            f"unlabelled: {bad.sum()} of {len(paths)} photographs in {root} cannot be used; fix "
            f"them, or set on_bad_image='skip':\n{listing(index.error[bad])}"
        )
    table = pd.DataFrame(
        {
            "name": [as_utf8(str(path.relative_to(root))) for path in paths],
            "path": paths,
            "hash": index["hash"],
            "mos": np.nan,
        }
    )
    table = table[~bad & ~table["hash"].isin(known)].drop_duplicates("hash")
    if not len(table):
        raise LabError(
            f"unlabelled: {root} holds no photograph that is not in the dataset already "
            f"({len(paths)} files checked)."
        )
    return table.reset_index(drop=True)
