"""The tiny prior's U-Net and text encoder: what the fit loop needs to train them together."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ..core.device import Compute
from ..diffusion.attention import share_prompts
from ..diffusion.captions import caption
from ..models.trainable import Trainable
from .loop import Task
from .prior_config import PriorConfig

# Share of steps guided by: the caption's tokens, its pooled vector alone, and one sequence of
# pooled vectors for the whole batch, as the teacher has it, with every view's own caption in it.
_WAYS = {"tokens": 0.4, "pooled": 0.2, "shared": 0.4}
# Captions of other views in a shared sequence.
_OTHERS = 32
# Half of the timesteps are drawn below this one: quality is read where there is little noise.
_EARLY = 200


class PriorUNet(Trainable):
    """U-Net and text encoder as one module: the noise it predicts."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module):
        super().__init__()
        share_prompts(unet)
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor, way: str
    ) -> torch.Tensor:
        """Noise (b, 4, h, w) in noisy latents; ``ids`` are tokens (b or more, length)."""
        encoded = self.text_encoder(ids)
        prompts = {
            "tokens": lambda: encoded.last_hidden_state,
            "pooled": lambda: encoded.pooler_output[:, None],
            "shared": lambda: encoded.pooler_output[None],
        }[way]()
        return self.unet(latents, timesteps, encoder_hidden_states=prompts, return_dict=False)[0]


class UNetTask(Task):
    """Epsilon prediction on the latents of the views.

    The goal is ``explained``: the share of the noise's variance predicted on held-out views, with
    their captions, at fixed noise and timesteps (half of them below 200, as in training).
    """

    goal = "explained"

    def __init__(
        self,
        network: PriorUNet,
        tokenizer,
        scheduler,
        latents: torch.Tensor,
        table: pd.DataFrame,
        config: PriorConfig,
        compute: Compute,
    ):
        self.network = network
        self.tokenizer = tokenizer
        self.scheduler = scheduler
        self.latents = latents
        self.table = table
        self.config = config
        self.compute = compute
        self.rows = {part: np.flatnonzero(table["split"] == part) for part in ("train", "val")}

    def batches(self, epoch: int, start: int) -> Iterator[list]:
        """See ``loop.Task``; a step follows from the seed and its number alone."""
        for step in range(start, self.config.unet_steps):
            rng = np.random.default_rng([self.config.seed, 2, step])
            rows = rng.choice(self.rows["train"], self.config.unet_batch)
            way = rng.choice(list(_WAYS), p=list(_WAYS.values()))
            yield [[rows, str(way), rng]]

    def loss(self, model: nn.Module, batch) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        rows, way, rng = batch
        return self._errors(model, rows, way, rng, self.config.drop_caption).mean(), len(rows)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        rng = np.random.default_rng([self.config.seed, 3])
        errors = [
            self._errors(model, rows, "tokens", rng, drop=0.0)
            for rows in np.array_split(self.rows["val"], max(1, len(self.rows["val"]) // 32))
        ]
        return {"explained": 1 - torch.cat(errors).mean().item()}

    def _errors(
        self, model, rows: np.ndarray, way: str, rng: np.random.Generator, drop: float
    ) -> torch.Tensor:
        """Squared error of the predicted noise, (b,)."""
        clean = self.latents[rows].to(self.compute.device)
        total = self.scheduler.config.num_train_timesteps
        ends = np.where(rng.random(len(rows)) < 0.5, _EARLY, total)
        timesteps = torch.from_numpy((rng.random(len(rows)) * ends).astype(np.int64))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(clean)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        ids = self._tokens(rows, way, rng, drop)
        predicted = model(noisy, timesteps.to(clean.device), ids.to(clean.device), way)
        return F.mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))

    def _tokens(
        self, rows: np.ndarray, way: str, rng: np.random.Generator, drop: float
    ) -> torch.Tensor:
        if way == "shared":
            dropped = [rng.random() < drop]
            others = rng.choice(self.rows["train"], _OTHERS)
            rows = rows[:1] if dropped[0] else np.concatenate([rows, others])
            dropped *= len(rows)
        else:
            dropped = rng.random(len(rows)) < drop
        known = zip(
            self.table["damage"].iloc[rows], self.table["luminance"].iloc[rows], strict=True
        )
        texts = [
            "" if drop else caption(damage, luminance, rng)
            for drop, (damage, luminance) in zip(dropped, known, strict=True)
        ]
        return self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
