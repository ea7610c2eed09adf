"""Maps laid over photographs, as pictures."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from PIL import Image

from ..core.errors import LabError
from ..datasets.images import read_image
from .contact_sheet import pictures
from .probe_figures import colours


def overlay(
    photograph, values: torch.Tensor | np.ndarray, low: float, high: float, size: int = 256
) -> Image.Image:
    """A photograph in grey under a map (h, w) in colour, squashed to a square of ``size`` pixels.

    ``low`` and ``high`` are the ends of the colour scale. ``photograph``: a file or a PIL image.
    Raises LabError for a map that is not of two dimensions.
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
    photographs: Sequence,
    maps: torch.Tensor | np.ndarray,
    names: Sequence[str],
    title: str,
    thumb: int = 160,
) -> go.Figure:
    """A row a photograph: itself, then each of its maps (n, c, h, w) over it.

    Each of the c maps has a colour scale of its own, the same for all photographs: from its least
    to its greatest value, which the captions give. ``names``: of the maps.
    """
    maps = np.asarray(maps, dtype=np.float32)
    sources, captions = [], []
    for photograph, row in zip(photographs, maps, strict=True):
        sources.append(Image.fromarray(read_image(photograph, thumb)))
        captions.append("")
        for k, (name, values) in enumerate(zip(names, row, strict=True)):
            low, high = maps[:, k].min(), maps[:, k].max()
            sources.append(overlay(photograph, values, low, high, thumb))
            captions.append(f"{name}\n{low:.3g} to {high:.3g}")
    return pictures(sources, captions, title, columns=1 + len(names), thumb=thumb)
