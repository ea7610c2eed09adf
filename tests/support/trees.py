"""Small datasets in the layout of every release, made on the spot."""

import io

import numpy as np
import pandas as pd
import scipy.io
from PIL import Image

KINDS = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}


def write_pictures(root, names):
    """A small valid picture under each name; no two files have equal content."""
    made = {}
    for kind in KINDS.values():
        made[kind] = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(made[kind], kind)
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        path = root / name
        # What follows the end of a picture is not read, but counts for the content's hash.
        path.write_bytes(made[KINDS[path.suffix.lower()]].getvalue() + str(i).encode())


def koniq(root, n=20, other=False):
    """Either CSV release; the parts alternate."""
    table = pd.DataFrame({"image_name": [f"{i}.jpg" for i in range(n)]})
    table[["c1", "c2", "c3", "c4", "c5"]] = 0.2
    table["c_total"] = 100
    table["MOS"] = np.linspace(1, 5, n) if other else np.linspace(4, 88, n)
    table["SD"] = 0.5
    if other:
        table["MOS_zscore"] = np.linspace(4, 88, n)
        file = "koniq10k_scores_and_distributions.csv"
    else:
        table["set"] = [("training", "training", "validation", "test")[i % 4] for i in range(n)]
        file = "koniq10k_distributions_sets.csv"
    write_pictures(root, [f"1024x768/{name}" for name in table["image_name"]])
    table.to_csv(root / file, index=False)


def clive(root, n=20):
    """MATLAB files: 7 training pictures first; suffixes of every case."""
    names = [f"t{i}.bmp" for i in range(1, 8)]
    names += [f"{i}{('.bmp', '.jpg', '.JPG')[i % 3]}" for i in range(n)]
    (root / "Data").mkdir(parents=True)
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    scipy.io.savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    scores = np.linspace(3, 92, len(names))[None]
    scipy.io.savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": scores})
    folders = ["Images/trainingImages"] * 7 + ["Images"] * n
    write_pictures(root, [f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)])


def livefb(root, n=20):
    """Names with folders; every fifth is in the official test part."""
    folders = ("voc_emotic_ava", "blur_dataset", "EE371R")
    names = [f"{folders[i % 3]}/{i}.jpg" for i in range(n)]
    write_pictures(root, names)
    table = pd.DataFrame({"name": names, "mos": np.linspace(0, 94, n)})
    table.to_csv(root / "labels_image.csv", index=False)
    test = table[::5].rename(columns={"name": "name_image", "mos": "mos_image"})
    test.to_csv(root / "labels640.csv", index=False)


def spaq(root, n=20):
    """An Excel sheet."""
    names = [f"{i:05d}.jpg" for i in range(1, n + 1)]
    write_pictures(root, [f"TestImage/{name}" for name in names])
    table = pd.DataFrame({"Image name": names, "MOS": np.linspace(2, 96, n), "Brightness": 50.0})
    table.to_excel(root / "MOS and Image attribute scores.xlsx", index=False)


def biq2021(root, n=20):
    """Two CSV files; the first with two empty columns, as released."""
    names = [f"ss0{i % 3 + 1} ({i}).jpg" for i in range(n)]
    write_pictures(root, [f"Images/{name}" for name in names])
    lines = [f"{name},{i / n:.4f}" for i, name in enumerate(names)]
    train = "Image Name,MOS,,\n" + "".join(f"{line},,\n" for line in lines[5:])
    (root / "Train (Images and MOS).csv").write_text(train)
    (root / "Test (Images and MOS).csv").write_text("\n".join(["Image Name,MOS", *lines[:5], ""]))


def kadid10k(root, references=4, kinds=2, levels=3, pictures=True):
    """Names and columns as released; the whole release is 81 x 25 x 5."""
    rows = [
        (f"I{r:02d}_{k:02d}_{level:02d}.png", f"I{r:02d}.png", f"{5 - 0.8 * level:.2f}", "0.5")
        for r in range(1, references + 1)
        for k in range(1, kinds + 1)
        for level in range(1, levels + 1)
    ]
    root.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["dist_img", "ref_img", "dmos", "var"])
    table.to_csv(root / "dmos.csv", index=False)
    if pictures:
        write_pictures(root, [f"images/{name}" for name in table["dist_img"]])


def tid2013(root, references=4, kinds=2, levels=3, pictures=True):
    """ "mos name" lines; the names on disk differ in case. The whole release is 25 x 24 x 5."""
    names = [
        f"I{r:02d}_{k:02d}_{level}.bmp"
        for r in range(1, references + 1)
        for k in range(1, kinds + 1)
        for level in range(1, levels + 1)
    ]
    root.mkdir(parents=True, exist_ok=True)
    lines = [f"{0.25 + 6.9 * i / len(names):.5f} {name}\n" for i, name in enumerate(names)]
    (root / "mos_with_names.txt").write_text("".join(lines))
    if pictures:
        on_disk = [name.replace("I", "i") if i % 2 else name for i, name in enumerate(names)]
        write_pictures(root, [f"distorted_images/{name}" for name in on_disk])


MAKERS = {
    "koniq": koniq,
    "clive": clive,
    "livefb": livefb,
    "spaq": spaq,
    "biq2021": biq2021,
    "kadid10k": kadid10k,
    "tid2013": tid2013,
}
