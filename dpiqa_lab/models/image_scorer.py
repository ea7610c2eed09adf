"""Scoring of files, PIL images and tensors by a model."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ..core.device import Compute, choose_compute
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.images import read_image, to_tensor
from ..nn.compiling import compiled

Photograph = Path | str | Image.Image | torch.Tensor


class ModelOutput(NamedTuple):
    """score (b,) on the normalised MOS scale; feature_map (b, 8, 64, 64).

    statistics (b, k) where a student predicts them too.
    """

    score: torch.Tensor
    feature_map: torch.Tensor
    statistics: torch.Tensor | None = None


class ImageScorer(nn.Module):
    """Base of modules with ``image_size`` whose ``forward`` gives an object with ``score``."""

    image_size: int

    def settings(self) -> dict:
        """Everything beside the weights that changes scores, as JSON: part of a fingerprint.

        These are the public attributes that are numbers, texts or sequences of these. A class
        that keeps such settings elsewhere, as in a submodule, has to add them.
        """
        own = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "training"}
        return {name: value for name, value in own.items() if _is_plain(value)}

    def score(
        self,
        photographs: Sequence[Photograph],
        batch_size: int = 8,
        device: str = "auto",
        precision: str = "float32",
        compile: bool = False,
    ) -> np.ndarray:
        """Scores on the normalised MOS scale, higher is better, not clipped; deterministic.

        Args:
            photographs: files, PIL images or tensors (3, h, w) in [0,1], in any mixture.
            precision: float32 gives the same scores on any batch size, to float tolerance; see
                ``choose_compute`` for the faster ones.
            compile: use ``torch.compile``, which takes a minute at first.

        Returns:
            (n,) float32.

        Raises:
            LabError: a photograph is unreadable; its name is in the message.
        """
        if isinstance(photographs, str | Path | Image.Image):
            raise LabError("score takes a list of photographs; wrap a single one in [ ].")
        compute = choose_compute(device, precision, compile)
        self.to(compute.device)
        scores = []
        starts = range(0, len(photographs), batch_size)
        with self.evaluation(compute):
            for start in progress_bar(starts, "scoring"):
                images = [self.prepare(p) for p in photographs[start : start + batch_size]]
                scores.append(self.score_batch(torch.stack(images), compute))
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    @contextlib.contextmanager
    def evaluation(self, compute: Compute) -> Iterator[None]:
        """Evaluation mode, no gradients, and the settings of ``compute``, for many batches.

        Weights must not change within the block: what does not depend on the image is computed
        once in it, the weights in ``compute.precision`` included.
        """
        self.eval()
        with torch.no_grad(), compute.autocast(), compiled(self, compute.compile):
            yield

    def score_batch(self, images: torch.Tensor, compute: Compute) -> np.ndarray:
        """Scores (b,) float32 of prepared images (b, 3, s, s), within ``evaluation``."""
        return self(images.to(compute.device)).score.float().cpu().numpy()

    def prepare(self, photograph: Photograph) -> torch.Tensor:
        """An image as the model's input: (3, s, s) float32 in [0,1], s its ``image_size``.

        Raises:
            LabError: it is unreadable, or a tensor of another kind.
        """
        if not torch.is_tensor(photograph):
            return to_tensor(read_image(photograph, self.image_size))
        if photograph.ndim != 3 or photograph.shape[0] != 3 or not photograph.is_floating_point():
            raise LabError(
                f"a photograph as tensor must be (3, height, width) float in [0,1], got "
                f"{tuple(photograph.shape)} {photograph.dtype}."
            )
        size = (self.image_size, self.image_size)
        if photograph.shape[-2:] == size:
            return photograph.float()
        return F.interpolate(
            photograph[None].float(), size, mode="bilinear", antialias=True, align_corners=False
        )[0]


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
