"""``docs/img/working.png``, the picture of the README: ``python -m tools.readme_picture``.

A photograph of scikit-image's data, sharp and blurred, where the channel of the tiny backbone that
loses most by the blur responds to it (absolute value), and the scores of the embedded student.
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import dpiqa_lab as lab
from dpiqa_lab.datasets.demo import open_picture
from dpiqa_lab.datasets.images import read_image, to_tensor
from dpiqa_lab.probing.activations import image_maps
from dpiqa_lab.viz.overlays import overlay

PICTURE, TAP, TIMESTEP = "coffee.png", "up_blocks.3", 1
SIDE, GAP, CAPTION = 280, 12, 34  # pixels of a panel, between panels and for the text above it
BLUR = 3  # pixels of a photograph of 512x512


def draw() -> Image.Image:
    """Four panels in a row: photograph and response, sharp, then blurred."""
    sharp = Image.fromarray(read_image(open_picture(PICTURE), 512))
    images = [sharp, sharp.filter(ImageFilter.GaussianBlur(BLUR))]
    tensors = torch.stack([to_tensor(read_image(image, 512)) for image in images])
    backbone = lab.load_backbone("tiny")
    maps = image_maps(backbone, tensors, ["", ""], TIMESTEP, [TAP])[TAP].abs()
    means = maps.mean((2, 3))
    channel = int(((means[0] - means[1]) / maps.std((0, 2, 3))).argmax())
    maps = maps[:, channel]
    low, high = 0.0, float(maps.quantile(0.995))
    panels = []
    for name, image, values, score in zip(
        ("as photographed", "blurred"), images, maps, lab.score(images), strict=True
    ):
        panels.append((f"{name}: score {score:.2f}", image.resize((SIDE, SIDE))))
        panels.append((f"{TAP}, channel {channel}", overlay(image, values, low, high, SIDE)))
    width = len(panels) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, SIDE + CAPTION + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for place, (caption, panel) in enumerate(panels):
        left = GAP + place * (SIDE + GAP)
        pen.text((left, 8), caption, "black", font)
        sheet.paste(panel, (left, CAPTION))
    return sheet


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/img/working.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    draw().quantize(256).save(out, optimize=True)
