"""Source, revision and hash of a backbone's pretrained parts, without loading them."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from ..core.errors import LabError
from ..core.files import json_hash, read_json, remembered_hash, tensors_hash
from .loading import random_part
from .presets import Preset
from .sources import explain, find_place, is_random, part_config, part_files, source_name
from .text_embeddings import PromptEmbedder, text_files

# The parts, and their names in a run's record of its models.
ROLES = {
    "unet": "backbone's U-Net",
    "vae": "backbone's VAE",
    "text_encoder": "backbone's text encoder",
}
# In the order in which diffusers and transformers look for them; an index names its shards.
_INDEX = ".index.json"
_DIFFUSERS = ("diffusion_pytorch_model.safetensors",)
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json")
# Hashed in folders alone: a hub's commit fixes them.
_TOKENIZER_OPTIONAL = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json")


def pretrained_parts(
    name: str = "tiny",
    random_weights: bool = False,
    revision: str | None = None,
    seed: int = 0,
    parts: Sequence[str] = tuple(ROLES),
) -> dict[str, dict]:
    """Sources of the parts that ``load_backbone`` takes with these arguments.

    Local files are hashed, once per process while they do not change; those of a hub are fetched
    where its cache lacks them. Only random parts are built, once per process.

    Args:
        name, random_weights, revision, seed: see ``load_backbone``.
        parts: any of "unet", "vae" and "text_encoder" (its tokenizer included).

    Returns:
        By part: source (hub id, folder, or "tiny"), revision (the hub's commit; None for a folder)
        and sha256, of configuration and weights; or for weights drawn by a seed
        random (True), seed and sha256, of configuration and values.

    Raises:
        LabError: see ``load_backbone``; a file is missing.
    """
    place = preset, folder, revision = find_place(name, revision)
    drawn = is_random("unet", name, folder, random_weights)
    origin = source_name(name, preset, folder)
    found = {}
    for part in parts:
        if part == "text_encoder":
            width = part_config(*place, "unet")["cross_attention_dim"] if drawn else 0
            embedder = PromptEmbedder(preset, revision, width, seed if drawn else None)
            found[part] = _text_encoder(embedder, preset.text_encoder or origin)
        elif is_random(part, name, folder, drawn):
            sha256 = _random_hash(part, json.dumps(part_config(*place, part)), seed)
            found[part] = {"random": True, "seed": seed, "sha256": sha256}
        else:
            source, subfolder, commit = part_files(part, *place)
            files = _Files(source, commit)
            sha256 = json_hash(files.model(subfolder or "", _DIFFUSERS))
            shown = preset.vae if part == "vae" and preset.vae else origin
            found[part] = {"source": shown, "revision": files.revision, "sha256": sha256}
    return found


def _text_encoder(embedder: PromptEmbedder, shown: str) -> dict:
    if embedder.drawn:
        probe = tensors_hash({"": torch.from_numpy(embedder.draw(""))})
        return {"random": True, "seed": embedder.seed, "sha256": probe}
    source, revision, encoder, tokenizer = text_files(embedder.preset, embedder.revision)
    files = _Files(source, revision)
    words = files.tokenizer(tokenizer)
    if embedder.seed is not None:
        config = files.hashes([_path(encoder, "config.json")])
        values = _random_encoder_hash(source, files.revision, embedder.seed, str(config))
        sha256 = json_hash([words, config, values])
        return {"random": True, "seed": embedder.seed, "sha256": sha256}
    sha256 = json_hash(words | files.model(encoder, _TRANSFORMERS))
    return {"source": shown, "revision": files.revision, "sha256": sha256}


@lru_cache(maxsize=64)
def _random_hash(part: str, config: str, seed: int) -> str:
    module = random_part(part, json.loads(config), seed)
    return json_hash([config, tensors_hash(module.state_dict())])


@lru_cache(maxsize=64)
def _random_encoder_hash(
    source: str,
    revision: str | None,
    seed: int,
    config: str,  # noqa: ARG001 - part of the cache's key
) -> str:
    return PromptEmbedder(Preset(source), revision, 0, seed).load()[2]


class _Files:
    """Files of a folder or of a hub's repository at one commit.

    Attributes:
        revision: of the hub; its commit once a file was found. None for a folder.
    """

    def __init__(self, source: str, revision: str | None) -> None:
        folder = Path(source).expanduser()
        self.source = source
        self.folder = folder if folder.is_dir() else None
        self.revision = None if self.folder else revision

    def model(self, subfolder: str, weights: Sequence[str]) -> dict[str, str]:
        """SHA-256 by name of a model's configuration and weights.

        Args:
            weights: names that the file of weights may have, the preferred one first.

        Raises:
            LabError: a file is missing, or the hub cannot be reached.
        """
        config = self.hashes([_path(subfolder, "config.json")])  # first: it fixes the hub's commit
        names = [_path(subfolder, name + end) for name in weights for end in ("", _INDEX)]
        found = next((name for name in names if self.find(name, optional=True)), names[0])
        shards: set[str] = set()
        if found.endswith(_INDEX):
            shards = set(read_json(self._found(found))["weight_map"].values())
        return config | self.hashes([found, *(_path(subfolder, shard) for shard in shards)])

    def tokenizer(self, subfolder: str) -> dict[str, str]:
        """SHA-256 by name of a tokenizer's files.

        Raises:
            LabError: a file is missing, or the hub cannot be reached.
        """
        names = [_path(subfolder, name) for name in _TOKENIZER]
        more = [_path(subfolder, name) for name in _TOKENIZER_OPTIONAL if self.folder]
        return self.hashes([*names, *(name for name in more if self.find(name, optional=True))])

    def hashes(self, names: Sequence[str]) -> dict[str, str]:
        """SHA-256 by name."""
        return {name: remembered_hash(self._found(name)) for name in names}

    def _found(self, name: str) -> Path:
        path = self.find(name)
        assert path is not None
        return path

    def find(self, name: str, optional: bool = False) -> Path | None:
        """A file's local path; None for an optional one that is missing.

        Raises:
            LabError: it is missing and not optional, or the hub cannot be reached.
        """
        if self.folder:
            path = self.folder / name
            if path.is_file():
                return path
            if optional:
                return None
            raise LabError(f"{self.folder} is not in diffusers layout: {name} is missing.")
        return self._fetched(name, optional)

    def _fetched(self, name: str, optional: bool) -> Path | None:
        from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError

        known = try_to_load_from_cache(self.source, name, revision=self.revision)
        if optional and known is _CACHED_NO_EXIST:
            return None
        try:
            path = Path(hf_hub_download(self.source, name, revision=self.revision))
        except (OSError, ValueError, EntryNotFoundError) as error:
            if optional and isinstance(error, EntryNotFoundError):
                return None
            raise explain(error, self.source, self.revision) from error
        # .../snapshots/<commit>/<name>
        self.revision = path.parents[name.count("/")].name
        return path


def _path(subfolder: str, name: str) -> str:
    return f"{subfolder}/{name}" if subfolder else name
