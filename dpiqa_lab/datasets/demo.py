"""A small labelled dataset generated from pictures included in scikit-image and scikit-learn.

Sixty views of fourteen scenes, undistorted or with camera-like distortions; nothing is downloaded.
The labels are computed, see ``PSEUDO_MOS``, and not human opinions: for trying the lab and for
tests, not for claims about perception.
"""

import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy.ndimage import sobel

from ..core.errors import LabError
from ..core.extras import explained
from ..core.files import check_disk_space, write_text
from .distortions import draw_distortions, to_floats, to_pillow

PSEUDO_MOS = (
    "Pseudo-MOS in [0, 1], computed and not a human opinion: the squared similarity of edges to the"
    " undamaged view, over three scales, times exp(-mean CIELAB difference / 40)."
)

SEED, SIZE = 0, 256

# Views per scene, and their numbers of simultaneous distortions, in turn.
VIEWS = 60
MIXES = (0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3)

# Picture: split. A picture's position seeds its distortions: append, never insert.
PICTURES = {
    "astronaut.png": "train", "camera.png": "test", "chelsea.png": "val", "china.jpg": "train",
    "coffee.png": "test", "coins.png": "val", "flower.jpg": "train", "motorcycle_left.png": "train",
    "rocket.jpg": "train", "moon.png": "train", "hubble_deep_field.jpg": "train",
    "brick.png": "train", "grass.png": "train", "gravel.png": "test",
}  # fmt: skip
# By path: the libraries' own loaders may try to download. Both folders come in the wheels.
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def make_demo(root: Path) -> None:
    """Make ``root/images/<name>.png`` (256x256 RGB) and ``root/labels.csv``, atomically.

    The columns are ``name, mos, scene, damage, split``: ``mos`` in [0, 1], see ``PSEUDO_MOS``;
    ``scene``, which is in one split only; ``damage`` such as ``defocus:0.42+jpeg:0.80`` or
    ``none``. The same library versions give the same files. A complete set is left as it is.

    Raises:
        LabError: ``root`` holds anything else, or an installed library lacks a picture.
    """
    root = Path(root).resolve()
    if _complete(root):
        return
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise LabError(f"{root} is not a complete demo set: move or delete it, then try again.")
    root.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with (
        check_disk_space(root),
        tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as temporary,
    ):
        build = Path(temporary) / "demo"
        (build / "images").mkdir(parents=True)
        for picture in PICTURES:
            whole = open_picture(picture)
            for view in range(VIEWS):
                row, image = _make(picture, whole, view)
                file = build / "images" / f"{row['name']}.png"
                to_pillow(image).save(file, compress_level=3)
                rows.append(row)
        write_text(build / "labels.csv", pd.DataFrame(rows).to_csv(index=False))
        try:
            build.replace(root)
        except OSError:
            if not _complete(root):  # another process may have made the same set meanwhile
                raise


def pseudo_mos(reference: np.ndarray, image: np.ndarray) -> float:
    """Label of ``image`` against ``reference``, both float (H, W, 3) in [0, 1]: see ``PSEUDO_MOS``.

    Edges are Sobel gradients of each channel at full, half and quarter size, compared as in GMSD
    (Xue et al., 2014) and weighted by the stronger of the two, so that flat areas do not raise the
    label of a blurred picture. Colours are compared on 8x8 means, so that noise and blur are not
    counted twice.
    """
    with explained():
        from skimage.color import rgb2lab
        from skimage.transform import downscale_local_mean

    colours = [rgb2lab(downscale_local_mean(x, (8, 8, 1))) for x in (reference, image)]
    difference = np.linalg.norm(colours[0] - colours[1], axis=2).mean()
    similarity = []
    for scale in (1, 2, 4):
        small = [downscale_local_mean(x, (scale, scale, 1)) for x in (reference, image)]
        a, b = (np.hypot(sobel(x, 0), sobel(x, 1)) for x in small)
        alike = (2 * a * b + 0.05**2) / (a**2 + b**2 + 0.05**2)
        similarity.append(np.average(alike, weights=np.maximum(a, b) + 0.02))
    return float(np.mean(similarity) ** 2 * np.exp(-difference / 40))


def _make(picture: str, whole: Image.Image, view: int) -> tuple[dict, np.ndarray]:
    """Row and image of one view, independent of the other views."""
    rng = np.random.default_rng([SEED, list(PICTURES).index(picture), view])
    reference = _view(whole, rng)
    scene, count = Path(picture).stem, MIXES[view % len(MIXES)]
    image, damages = draw_distortions(reference, count, rng)
    image = to_floats(to_pillow(image))  # label the file, which has 8 bits
    row = {
        "name": f"{scene}-{view:02d}",
        "mos": round(pseudo_mos(reference, image), 4),
        "scene": scene,
        "damage": damages,
        "split": PICTURES[picture],
    }
    return row, image


def _view(whole: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random square crop of at least 256 pixels, mirrored or not, as 256x256."""
    side = int(rng.integers(SIZE, min(whole.size) + 1))
    x, y = (int(rng.integers(free - side + 1)) for free in whole.size)
    crop = whole.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return to_floats(ImageOps.mirror(crop) if rng.random() < 0.5 else crop)


def open_picture(picture: str) -> Image.Image:
    """One of the libraries' pictures as RGB. Raises LabError where it is missing."""
    with explained():
        folders = [
            Path(str(import_module(name).__file__)).parent / _FOLDERS[name] for name in _FOLDERS
        ]
    file = next((folder / picture for folder in folders if (folder / picture).is_file()), None)
    if file is None:
        raise LabError(f"picture {picture} is missing: reinstall scikit-image and scikit-learn.")
    return Image.open(file).convert("RGB")


def _complete(root: Path) -> bool:
    try:
        names = pd.read_csv(root / "labels.csv", usecols=["name"])["name"]
    except (OSError, ValueError):
        return False
    return len(names) > 0 and all((root / "images" / f"{name}.png").is_file() for name in names)
