"""A home of its own for every test session: nothing is read from or written to the repository's."""

import os
import tempfile

# Before the package is imported anywhere, kernels started by the tests included.
_HOME = tempfile.TemporaryDirectory(prefix="dpiqa-tests-")
os.environ["DPIQA_HOME"] = _HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
BIQ = REPOSITORY.parent / "shared" / "biq2021"
LABELS = REPOSITORY.parent / "shared" / "labels"
needs_biq = pytest.mark.skipif(not BIQ.is_dir(), reason="the BIQ2021 photographs are not here")
needs_labels = pytest.mark.skipif(not LABELS.is_dir(), reason="the real label files are not here")


def photographs(folder: Path, n: int, size: int = 64, seed: int = 0) -> pd.DataFrame:
    """``n`` noisy pictures of falling contrast under ``folder``, and their labels from 0 to 100."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        contrast = 1 - i / n
        pixels = 128 + contrast * rng.normal(0, 60, (size, size, 3))
        name = f"p{i:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        rows.append({"name": name, "mos": round(100 * contrast, 3)})
    return pd.DataFrame(rows)


@pytest.fixture
def small_folder(tmp_path):
    """A folder of 30 small photographs with a CSV, as ``dataset="folder"`` takes it."""
    root = tmp_path / "photos"
    photographs(root, 30).to_csv(root / "scores.csv", index=False)
    return root


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory):
    """A folder of 40 smooth pictures of 256x260 pixels, without scores."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(40):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((256, 260), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder
