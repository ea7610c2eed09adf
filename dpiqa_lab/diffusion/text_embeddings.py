"""Pooled prompt embeddings, computed once per text encoder and cached on disk."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.cache import RowCache
from ..core.errors import LabError, unknown
from ..core.files import tensors_hash
from ..core.progress import progress_bar
from .presets import Preset
from .prompts import prompt_texts

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

# One vector per prompt: the end-of-text token's (the authors' code), or the mean over the prompt's
# tokens (the figure of the paper's later versions).
POOLINGS = ("eos", "mean")


class PromptEmbedder:
    """From prompts to a (K, d) tensor: one pooled vector per prompt.

    "eos", as the authors' code: with ``preset.text_encoder`` the projected CLIP text features
    (``text_embeds``); else the EOS-pooled hidden state of the text encoder beside the U-Net.
    "mean": the mean of the hidden states from the first token to EOS, not projected. A
    random-weight preset of full size gets seeded normal vectors, which carry as much information
    as a random encoder's.

    Raises:
        LabError: the encoder cannot be loaded or its width is not the U-Net's.
    """

    def __init__(
        self, preset: Preset, revision: str | None, width: int, seed: int | None = None
    ) -> None:
        self.preset = preset
        self.revision = revision
        self.width = width
        self.seed = seed  # of a random text encoder; None: a pretrained one

    @property
    def drawn(self) -> bool:
        """Whether embeddings are drawn by the seed, without any encoder."""
        return self.seed is not None and self.preset.text_encoder is not None

    def __call__(self, prompts: str | Sequence[str], pooling: str = "eos") -> torch.Tensor:
        """Embeddings (K, d) float32 of a prompt set."""
        if pooling not in POOLINGS:
            raise unknown("prompt pooling", pooling, POOLINGS)
        texts = prompt_texts(prompts)
        if self.drawn:
            return torch.from_numpy(np.stack([self.draw(text) for text in texts]))
        encoder, tokenizer, identity = self.load()
        key = {"text_encoder": identity, "width": self.width}
        if pooling != "eos":
            key["pooling"] = pooling
        ids = [hashlib.sha256(text.encode()).hexdigest() for text in texts]

        @torch.no_grad()
        def embed(positions: list[int]) -> dict[str, torch.Tensor]:
            chosen = [texts[i] for i in positions]
            _warn_cut(chosen, tokenizer)
            batch = tokenizer(
                chosen,
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            )
            output = encoder(batch.input_ids)
            if pooling == "mean":
                # The padding after EOS is left out; nothing before it attends to it.
                lengths = torch.tensor(
                    [len(ids) for ids in tokenizer(chosen, truncation=True).input_ids]
                )
                kept = (torch.arange(batch.input_ids.shape[1]) < lengths[:, None])[..., None]
                pooled = (output.last_hidden_state * kept).sum(1) / kept.sum(1)
            else:
                pooled = output.text_embeds if self.preset.text_encoder else output.pooler_output
            return {"embedding": pooled.float()}

        def bar(batches: list[list[int]]) -> Iterable[list[int]]:
            return progress_bar(batches, "embedding prompts")

        rows = RowCache("prompts", key).rows(ids, embed, 64, bar)["embedding"]
        if rows.shape[1] != self.width:
            raise LabError(
                f"the text encoder gives {rows.shape[1]} numbers a prompt, the U-Net of "
                f"{self.preset.source} takes {self.width}: name the encoder that belongs to it."
            )
        return rows

    def load(self) -> "tuple[CLIPTextModel | CLIPTextModelWithProjection, CLIPTokenizer, str]":
        """Text encoder, tokenizer, and a hash of the encoder's weights."""
        from transformers import (
            CLIPTextConfig,
            CLIPTextModel,
            CLIPTextModelWithProjection,
            CLIPTokenizer,
        )

        source, revision, *parts = text_files(self.preset, self.revision)
        options: dict[str, Any] = {"revision": revision}
        projected = self.preset.text_encoder is not None
        model_class = CLIPTextModelWithProjection if projected else CLIPTextModel
        try:
            tokenizer = CLIPTokenizer.from_pretrained(source, subfolder=parts[1], **options)
            if self.seed is not None:
                config = CLIPTextConfig.from_pretrained(source, subfolder=parts[0], **options)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(self.seed)
                    encoder = model_class(config)
            else:
                with _no_bar(source):
                    encoder = model_class.from_pretrained(
                        source, subfolder=parts[0], dtype=torch.float32, **options
                    )
        except (OSError, ValueError) as error:
            raise LabError(
                f"cannot load the text encoder {source}: {str(error).splitlines()[0][:200]}"
            ) from error
        return encoder.eval(), tokenizer, tensors_hash(encoder.state_dict())

    def draw(self, text: str) -> np.ndarray:
        """Standard normal numbers (width,) by the seed and the text."""
        digest = hashlib.sha256(f"{self.seed} {text}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8]))
        return rng.standard_normal(self.width, dtype=np.float32)


def text_files(preset: Preset, revision: str | None) -> tuple[str, str | None, str, str]:
    """Hub id or folder, hub revision, and the sub-folders of a text encoder and its tokenizer."""
    if preset.text_encoder:
        return preset.text_encoder, preset.text_revision, "", ""
    return preset.source, revision, "text_encoder", "tokenizer"


@contextlib.contextmanager
def _no_bar(source: Path | str) -> Iterator[None]:
    """No bar for the short read from a folder, as it would stay in a notebook."""
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    if not enabled or not Path(source).is_dir():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _warn_cut(texts: list[str], tokenizer: "CLIPTokenizer") -> None:
    limit = tokenizer.model_max_length
    for text, tokens in zip(texts, tokenizer(texts).input_ids, strict=True):
        if len(tokens) > limit:
            warnings.warn(f"prompt cut to {limit} tokens: {text[:80]!r}", stacklevel=3)
