"""A home of its own for every test session: nothing is read from or written to the repository's."""

import os
import shutil
import sys
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

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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


def demo_photographs(folder: Path, names: tuple[str, ...] | None = None) -> None:
    """Views of the demo set's pictures under six damages each, 256x256, with ``scores.csv``."""
    from dpiqa_lab.datasets.demo import PICTURES, open_picture, pseudo_mos
    from dpiqa_lab.datasets.distortions import distort, to_floats, to_pillow

    kinds = {"none": 0, "defocus": 0.3, "motion_blur": 0.6, "noise": 0.8, "jpeg": 0.9}
    folder.mkdir(parents=True)
    rows = []
    for picture in names or PICTURES:
        whole = open_picture(picture)
        side = min(whole.size)
        x = (whole.width - side) // 2
        view = to_floats(whole.crop((x, 0, x + side, side)).resize((256, 256)))
        for kind, strength in {**kinds, "low_contrast": 0.7}.items():
            image = view if kind == "none" else distort(view, kind, strength)
            name = f"{Path(picture).stem}-{kind}.png"
            to_pillow(image).save(folder / name)
            mos = round(pseudo_mos(view, image), 4)
            rows.append({"name": name, "mos": mos, "scene": Path(picture).stem})
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)


def small_student(folder: Path, seed: int = 0):
    """A student of 64x64 pixels with random weights, as a folder that ``load_model`` opens."""
    import torch

    import dpiqa_lab as lab
    from dpiqa_lab.core.files import write_json
    from dpiqa_lab.training.checkpoints import save_weights
    from tests.support.networks import stir

    torch.manual_seed(seed)
    student = stir(lab.Student("efficientnet_b0", image_size=64, width=8)).eval()
    save_weights(folder / "checkpoints" / "best.safetensors", student.state_dict())
    config = {"kind": "student", "trunk": "efficientnet_b0", "width": 8, "image_size": 64}
    write_json(folder / "config.json", {**config, "converted_from": "student.pth"})
    return student


@pytest.fixture(autouse=True)
def small_numbers():
    """What a training has changed in torch for good: numbers below 1e-38 are 0, to hypothesis too.

    The next test of the same process starts without it.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory):
    """The folder of ``small_student``."""
    folder = tmp_path_factory.mktemp("models") / "student"
    small_student(folder)
    return folder


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


@pytest.fixture(scope="module")
def kl_folder(tmp_path_factory):
    """A folder in diffusers layout with the other kind of VAE, and no text encoder."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder = tmp_path_factory.mktemp("kl")
    torch.manual_seed(0)
    UNet2DConditionModel(
        block_out_channels=(8, 8, 16, 16), cross_attention_dim=12, attention_head_dim=2,
        norm_num_groups=4,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    return folder


@pytest.fixture
def chromium():
    if CHROMIUM is None:
        message = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return CHROMIUM
