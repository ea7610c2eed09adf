"""STUB until merged."""

from pathlib import Path

from ..core.files import file_hash, json_hash
from .presets import find_preset


def pretrained_parts(name, random_weights=False, revision=None, seed=0):
    preset = find_preset(name)
    folder = Path(preset.source).expanduser()
    parts = {}
    for part in ("unet", "vae", "text_encoder"):
        files = {p.name: file_hash(p) for p in sorted((folder / part).rglob("*.safetensors"))}
        parts[part] = {"source": name, "revision": revision, "sha256": json_hash(files)}
    if random_weights:
        parts["unet"] = {"random": True, "seed": seed}
    return parts
