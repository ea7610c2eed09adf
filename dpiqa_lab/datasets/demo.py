"""A small labelled picture set made on the spot from pictures that ship inside two libraries.

Fourteen scenes from the wheels of scikit-image and scikit-learn, sixty views of each, every view
undamaged or damaged as a camera might. Nothing is downloaded. The labels are not
human opinions but the measure that ``PSEUDO_MOS`` states: good for trying the lab and for tests,
no ground for a claim about how people see.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import skimage
import sklearn
from PIL import Image, ImageOps
from scipy.ndimage import sobel
from scipy.signal import fftconvolve
from skimage.color import rgb2lab
from skimage.transform import downscale_local_mean

from ..core.errors import LabError, unknown
from ..core.files import write_text

PSEUDO_MOS = (
    "Pseudo-MOS in [0, 1], computed and not a human opinion: the squared similarity of edges to the"
    " undamaged view, over three scales, times exp(-mean CIELAB difference / 40)."
)

SEED, SIZE, GAMMA = 0, 256, 2.2

# Images a scene, each a view of its own, and how many damages they have at once, in turn.
VIEWS = 60
MIXES = (0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3)

# Picture: split. A picture's place here seeds its damage: append, never insert.
PICTURES = {
    "astronaut.png": "train", "camera.png": "test", "chelsea.png": "val", "china.jpg": "train",
    "coffee.png": "test", "coins.png": "val", "flower.jpg": "train", "motorcycle_left.png": "train",
    "rocket.jpg": "train", "moon.png": "train", "hubble_deep_field.jpg": "train",
    "brick.png": "train", "grass.png": "train", "gravel.png": "test",
}  # fmt: skip
# By path: the libraries' own loaders may try to download. Both folders come in the wheels.
_FOLDERS = [
    Path(library.__file__).parent / folder
    for library, folder in ((skimage, "data"), (sklearn, "datasets/images"))
]


def make_demo(root: Path) -> None:
    """Make ``root/images/<name>.png`` (256x256 RGB) and ``root/labels.csv``, whole or not at all.

    The columns are ``name, mos, scene, damage, split``: ``mos`` in [0, 1] as ``PSEUDO_MOS`` says,
    against the same view undamaged, ``scene`` the content, which is never in two splits, ``damage``
    as in ``defocus:0.42+jpeg:0.80`` or ``none``. The same library versions give the same files.
    Does nothing where the set is already complete. Raises LabError if ``root`` holds anything else,
    or if an installed library lacks one of the pictures.
    """
    root = Path(root).resolve()
    if _complete(root):
        return
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise LabError(f"{root} is not a complete demo set: move or delete it, then try again.")
    root.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as temporary:
        build = Path(temporary) / "demo"
        (build / "images").mkdir(parents=True)
        for picture in PICTURES:
            whole = _open(picture)
            for view in range(VIEWS):
                row, image = _make(picture, whole, view)
                file = build / "images" / f"{row['name']}.png"
                _pillow(image).save(file, compress_level=3)
                rows.append(row)
        write_text(build / "labels.csv", pd.DataFrame(rows).to_csv(index=False))
        try:
            build.replace(root)
        except OSError:
            if not _complete(root):  # another process may have made the same set meanwhile
                raise


def damage(
    image: np.ndarray, kind: str, strength: float, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """``image``, float (H, W, 3) in [0, 1], with one of ``DAMAGES``: a new float32 array alike.

    ``strength`` runs from 0 (nothing) to 1 (heavy). ``seed`` fixes what is random: the grain of
    noise, the direction of motion, the tint of a cast. Raises LabError for an unknown ``kind``, a
    ``strength`` outside [0, 1] or an image of another shape or type.
    """
    if kind not in DAMAGES:
        raise unknown("damage", kind, DAMAGES)
    if not 0 <= strength <= 1:
        raise LabError(f"strength {strength} of {kind!r} is not in [0, 1].")
    if image.dtype.kind != "f" or image.ndim != 3 or image.shape[2] != 3:
        raise LabError(f"want a float image (H, W, 3), not {image.dtype} {image.shape}.")
    image = image.astype(np.float32)
    if strength == 0:  # even the best JPEG would change the picture
        return image
    damaged = DAMAGES[kind](image, strength, np.random.default_rng(seed))
    return np.clip(damaged, 0, 1).astype(np.float32)


def pseudo_mos(reference: np.ndarray, image: np.ndarray) -> float:
    """The label of ``image`` against ``reference``, both float (H, W, 3) in [0, 1]: see PSEUDO_MOS.

    Edges are Sobel gradients of each channel at full, half and quarter size, compared as in GMSD
    (Xue et al., 2014) and weighted by the stronger of the two: flat parts would else raise the
    label of a blurred picture with much sky. Colours are compared on 8x8 means, so that noise and
    blur are not counted twice.
    """
    colours = [rgb2lab(downscale_local_mean(x, (8, 8, 1))) for x in (reference, image)]
    difference = np.linalg.norm(colours[0] - colours[1], axis=2).mean()
    similarity = []
    for scale in (1, 2, 4):
        small = [downscale_local_mean(x, (scale, scale, 1)) for x in (reference, image)]
        a, b = (np.hypot(sobel(x, 0), sobel(x, 1)) for x in small)
        alike = (2 * a * b + 0.05**2) / (a**2 + b**2 + 0.05**2)
        similarity.append(np.average(alike, weights=np.maximum(a, b) + 0.02))
    return float(np.mean(similarity) ** 2 * np.exp(-difference / 40))


def _colour_cast(image, strength, rng):
    hue = rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
    return image * 2 ** (1.5 * strength / GAMMA * np.cos(hue))


def _blur(image, reach, weight):
    """Mean over offsets up to ``reach``, weighted by ``weight(x, y)`` clipped to [0, 1]."""
    radius = int(np.ceil(reach))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = np.clip(weight(x, y), 0, 1)
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    return fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))


def _defocus(image, strength, rng):
    radius = 7 * strength + 0.5
    return _blur(image, radius, lambda x, y: radius - np.hypot(x, y))


def _motion_blur(image, strength, rng):
    half, angle = 13 * strength + 0.5, rng.uniform(0, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return _blur(
        image, half, lambda x, y: np.minimum(half - abs(x * c + y * s), 1 - abs(y * c - x * s))
    )


def _noise(image, strength, rng):
    light, level = image**GAMMA, strength**2
    sigma = np.sqrt(0.25 * level * light + (0.04 * level) ** 2)  # shot and read noise
    return np.clip(light + sigma * rng.standard_normal(image.shape), 0, 1) ** (1 / GAMMA)


def _scaling(image, strength, rng):
    height, width = image.shape[:2]
    factor = 1 + 7 * strength
    small = [max(1, round(side / factor)) for side in (width, height)]
    shrunk = _pillow(image).resize(small, Image.Resampling.BOX)
    return _floats(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _jpeg(image, strength, rng):
    file = io.BytesIO()
    _pillow(image).save(file, "JPEG", quality=round(90 * (4 / 90) ** strength))
    return _floats(Image.open(file))


# In camera order, the file last: a mix is applied in this order. Each function takes an image,
# float32 (H, W, 3) in [0, 1], a strength in [0, 1] and a generator; ``damage`` clips the result.
DAMAGES = {
    "under_exposure": lambda x, s, rng: x * 2 ** (-5 * s / GAMMA),
    "over_exposure": lambda x, s, rng: x * 2 ** (3 * s / GAMMA),
    "colour_cast": _colour_cast,
    "low_contrast": lambda x, s, rng: x.mean() + (x - x.mean()) * (1 - 0.85 * s),
    "defocus": _defocus,
    "motion_blur": _motion_blur,
    "noise": _noise,
    "scaling": _scaling,
    "jpeg": _jpeg,
}


def _make(picture, whole, view):
    """The row and the image of one view, whatever was made before it."""
    rng = np.random.default_rng([SEED, list(PICTURES).index(picture), view])
    reference = _view(whole, rng)
    scene, count = Path(picture).stem, MIXES[view % len(MIXES)]
    kinds = opposites = {"under_exposure", "over_exposure"}
    while opposites <= kinds:  # they would undo each other
        kinds = set(rng.choice(list(DAMAGES), count, replace=False))
    image, parts = reference, []
    for kind in (kind for kind in DAMAGES if kind in kinds):
        strength = round(rng.uniform(0.05, 1) / count**0.5, 2)  # else all mixes would be heavy
        image = damage(image, kind, strength, rng)
        parts.append(f"{kind}:{strength:.2f}")
    image = _floats(_pillow(image))  # the label is that of the file, in 8 bits
    row = {
        "name": f"{scene}-{view:02d}",
        "mos": round(pseudo_mos(reference, image), 4),
        "scene": scene,
        "damage": "+".join(parts) or "none",
        "split": PICTURES[picture],
    }
    return row, image


def _view(whole, rng):
    """A square part of any place and size from 256 pixels on, mirrored or not, as 256x256."""
    side = int(rng.integers(SIZE, min(whole.size) + 1))
    x, y = (int(rng.integers(free - side + 1)) for free in whole.size)
    part = whole.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return _floats(ImageOps.mirror(part) if rng.random() < 0.5 else part)


def _open(picture):
    file = next((folder / picture for folder in _FOLDERS if (folder / picture).is_file()), None)
    if file is None:
        raise LabError(f"picture {picture} is missing: reinstall scikit-image and scikit-learn.")
    return Image.open(file).convert("RGB")


def _complete(root):
    try:
        names = pd.read_csv(root / "labels.csv", usecols=["name"])["name"]
    except (OSError, ValueError):
        return False
    return len(names) > 0 and all((root / "images" / f"{name}.png").is_file() for name in names)


def _floats(picture):
    return np.asarray(picture, dtype=np.float32) / 255


def _pillow(image):
    return Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
