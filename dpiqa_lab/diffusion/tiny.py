"""The tiny prior's layout: Stable Diffusion 1.5's topology, narrower, with its own tokenizer.

The folder opens with ``load_backbone`` and, once it holds weights, with diffusers'
``StableDiffusionPipeline.from_pretrained``.
"""

import json
from pathlib import Path

from ..core.files import write_json, write_text
from .prompts import DISTORTIONS, MERGED, QUALITIES, SCENES, TEMPLATE, prompt_texts

WIDTHS = [48, 96, 128, 128]
TEXT_WIDTH = 128
MAX_TOKENS = 32

_UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": WIDTHS,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    # No attention at the highest resolution: there it takes as long as all the rest.
    "transformer_layers_per_block": [0, 1, 1, 1],
    "layers_per_block": 2,
    "cross_attention_dim": TEXT_WIDTH,
    # In this class the field is the number of heads.
    "attention_head_dim": 2,
    "norm_num_groups": 16,
}
_VAE = {
    "_class_name": "AutoencoderTiny",
    "encoder_block_out_channels": [32] * 4,
    "decoder_block_out_channels": [32] * 4,
    "num_encoder_blocks": [1, 2, 3, 3],
    "num_decoder_blocks": [3, 3, 2, 1],
    "latent_channels": 4,
}
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def write_layout(folder: Path, scaling_factor: float = 1.0) -> None:
    """Write the tiny prior's configs, tokenizer and pipeline index, without weights.

    ``scaling_factor`` brings the VAE's latents to unit variance.
    """
    write_json(folder / "model_index.json", _INDEX)
    write_json(folder / "unet" / "config.json", _UNET)
    write_json(folder / "vae" / "config.json", {**_VAE, "scaling_factor": scaling_factor})
    write_json(folder / "scheduler" / "scheduler_config.json", _SCHEDULER)
    vocabulary = _write_tokenizer(folder / "tokenizer")
    write_json(
        folder / "text_encoder" / "config.json",
        {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": len(vocabulary),
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 4 * TEXT_WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": MAX_TOKENS,
            "hidden_act": "quick_gelu",
            # Of the module, whatever its file holds: beside a float32 U-Net it has to be the same.
            "dtype": "float32",
            "bos_token_id": vocabulary["<|startoftext|>"],
            "eos_token_id": vocabulary["<|endoftext|>"],
            "pad_token_id": vocabulary["<|endoftext|>"],
        },
    )


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """CLIP's byte-level BPE, its merges learnt on the prompts: a word of theirs is one token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, end_of_word_suffix="</w>", min_frequency=1, show_progress=False
    )
    words = " ".join(
        [TEMPLATE, *QUALITIES, *SCENES, *DISTORTIONS, *MERGED, *prompt_texts("merged")]
    )
    bpe.train_from_iterator([words.replace("{", " ").replace("}", " ")], trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": MAX_TOKENS,
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
        },
    )
    return vocabulary
