"""A teacher's outputs for images: computed once, cached, and read without the teacher."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader

from ..core.cache import RowCache
from ..core.device import Compute
from ..core.progress import progress_bar
from ..core.runs import Run
from ..datasets.image_set import ImageSet
from ..datasets.images import unit_range
from ..datasets.pixels import Pixels
from ..diffusion.latents import dataset_latents
from ..models.image_scorer import ModelOutput
from ..models.teacher import Teacher
from .load_model import load_model
from .run_fingerprint import run_fingerprint


def teacher_outputs(
    run: Run,
    table: pd.DataFrame,
    compute: Compute,
    workers: int = 0,
    batch_size: int = 8,
    cache_dir: Path | str | None = None,
) -> ModelOutput:
    """Scores and maps of every photograph, in the table's order, from the cache where known.

    The teacher is loaded only where some are not, and is gone afterwards.

    Args:
        run: whose best weights teach: a teacher's, a converted checkpoint's, or another student's.
        table: path, hash and mos of photographs, which are squashed to the teacher's own size.

    Returns:
        score (n,) float32 and feature_map (n, 8, 64, 64) float16, on the CPU.
    """

    # Not compiled, as the entry's key does not say so.
    plain = dataclasses.replace(compute, compile=False)

    def computed(batches: list[list[int]]) -> Iterator[dict[str, torch.Tensor]]:
        """Rows of those batches, by a teacher that lives as long as this generator."""
        missing = table.iloc[[i for batch in batches for i in batch]]
        print(f"teacher {run.name}: scores and maps of {len(missing)} photographs")
        model = load_model(run.path).to(compute.device)
        photographs = ImageSet(missing.reset_index(drop=True), model.image_size)
        latents = None
        if isinstance(model, Teacher):
            latents = dataset_latents(
                model.backbone, photographs, compute, model.vae_input, workers=workers,
                cache_dir=cache_dir,
            )  # fmt: skip
        loader = DataLoader(Pixels(photographs), batch_size=batch_size, num_workers=workers)
        for pixels, _, positions in progress_bar(loader, "teacher's outputs", len(batches)):
            images = unit_range(pixels, compute.device)
            known = () if latents is None else (latents[positions].to(compute.device),)
            with torch.no_grad(), plain.autocast():
                output = model(images, *known)
            yield {"score": output.score.float(), "feature_map": output.feature_map.half()}

    cache = RowCache("teacher", {**run_fingerprint(run), "precision": compute.precision}, cache_dir)
    rows = cache.rows(list(table["hash"]), lambda found: found, batch_size, computed)
    if compute.device.type == "cuda":
        torch.cuda.empty_cache()
    return ModelOutput(rows["score"], rows["feature_map"])
