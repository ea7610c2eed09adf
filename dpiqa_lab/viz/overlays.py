"""Feature maps overlaid on photographs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from PIL import Image
from plotly.colors import get_colorscale, sample_colorscale

from ..core.errors import LabError
from ..datasets.images import read_image
from .contact_sheet import pictures
from .probe_figures import SCALE


def overlay(
    photograph: str | Path | Image.Image,
    values: torch.Tensor | np.ndarray,
    low: float,
    high: float,
    size: int = 256,
) -> Image.Image:
    """A grey photograph under a map (h, w) in colour, as a square of ``size`` pixels.

    ``low`` and ``high`` are the ends of the colour scale. Raises LabError for a map that has not
    two dimensions.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2:
        raise LabError(f"a map has shape (height, width), got {values.shape}.")
    grey = Image.fromarray(read_image(photograph, size)).convert("L")
    scaled = ((values - low) / max(high - low, 1e-12)).astype(np.float32)
    smooth = Image.fromarray(scaled).resize((size, size), Image.Resampling.BILINEAR)
    colour = Image.fromarray(colours(np.asarray(smooth)))
    return Image.blend(grey.convert("RGB"), colour, 0.6)


def map_sheet(
    photographs: Sequence[str | Path | Image.Image],
    maps: torch.Tensor | np.ndarray,
    names: Sequence[str],
    title: str,
    beside: Sequence[str] | None = None,
    thumb: int = 152,
) -> go.Figure:
    """A row per photograph: itself, then each of its maps (n, c, h, w) over it.

    Each of the c maps has its own colour scale for all photographs, from its minimum to its
    maximum, given in the captions. ``names``: of the maps. ``beside``: captions of the
    photographs.
    """
    maps = np.asarray(maps, dtype=np.float32)
    sources: list[str | Path | Image.Image] = []
    captions = []
    beside = beside or [""] * len(maps)
    for photograph, row, caption in zip(photographs, maps, beside, strict=True):
        sources.append(Image.fromarray(read_image(photograph, thumb)))
        captions.append(caption)
        for k, (name, values) in enumerate(zip(names, row, strict=True)):
            low, high = maps[:, k].min(), maps[:, k].max()
            sources.append(overlay(photograph, values, low, high, thumb))
            captions.append(f"{name}\n{_range(low, high)}")
    return pictures(sources, captions, title, columns=1 + len(names), thumb=thumb)


def _range(low: float, high: float) -> str:
    """Both ends, with enough digits to distinguish them."""
    for digits in range(3, 8):
        ends = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if ends[0] != ends[1]:
            break
    return " to ".join(ends)


def colours(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] of any shape as colours (..., 3) uint8."""
    stops = np.linspace(0, 1, 256)
    names = sample_colorscale(get_colorscale(SCALE), list(stops), colortype="tuple")
    table = (np.array(names) * 255).round().astype(np.uint8)
    return table[(np.clip(values, 0, 1) * 255).round().astype(int)]
