"""What names a backbone's pretrained parts: the content of their files, wherever these lie."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.core import files
from dpiqa_lab.core.files import file_hash, remembered_hash
from dpiqa_lab.diffusion.presets import PRESETS, Preset, find_preset
from dpiqa_lab.diffusion.pretrained import ROLES, pretrained_parts

COMMIT = "0123456789abcdef0123456789abcdef01234567"
READ = {
    "unet": ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"],
    "vae": ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"],
    "text_encoder": [
        "text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/vocab.json",
        "tokenizer/merges.txt", "tokenizer/tokenizer_config.json",
    ],
}  # fmt: skip


def _hashes(parts):
    return {part: named["sha256"] for part, named in parts.items()}


@pytest.fixture
def folder(tmp_path):
    """The tiny prior in a folder of its own."""
    return Path(shutil.copytree(find_preset("tiny").source, tmp_path / "prior"))


def test_a_copy_elsewhere_has_the_same_hashes_and_names_its_folder(folder):
    own, copied = pretrained_parts("tiny"), pretrained_parts(str(folder))
    assert list(own) == list(ROLES)
    assert _hashes(own) == _hashes(copied)
    assert len(set(_hashes(own).values())) == 3
    assert all(part["source"] == "tiny" and part["revision"] is None for part in own.values())
    assert all(part["source"] == str(folder) for part in copied.values())
    (folder / "README.md").write_text("another text")
    (folder / "unet" / "notes.txt").write_text("read by nobody")
    assert pretrained_parts(str(folder)) == copied


@pytest.mark.parametrize("part", ROLES)
def test_any_byte_of_its_files_changes_the_part_and_no_other(folder, part):
    before = _hashes(pretrained_parts(str(folder)))
    for name in READ[part]:
        path = folder / name
        whole = path.read_bytes()
        places = 0, len(whole) // 2, len(whole) - 1
        if name == "vae/config.json":  # which is read too: another digit leaves it readable
            places = [i for i, byte in enumerate(whole) if chr(byte).isdigit()][::8]
        for place in places:
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            now = _hashes(pretrained_parts(str(folder)))
            assert {p for p in ROLES if now[p] != before[p]} == {part}, (name, place)
        path.write_bytes(whole)
    assert _hashes(pretrained_parts(str(folder))) == before


def test_a_missing_file_is_named(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(lab.LabError, match=r"unet/diffusion_pytorch_model\.safetensors is missing"):
        pretrained_parts(str(folder))
    assert pretrained_parts(str(folder), parts=("vae",)) == {
        "vae": {**pretrained_parts("tiny", parts=("vae",))["vae"], "source": str(folder)}
    }


def test_weights_in_shards_are_all_hashed(folder):
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shards = ["a.safetensors", "b.safetensors"]
    for shard in shards:
        (folder / "unet" / shard).write_bytes(shard.encode())
    index = {"weight_map": {"x": shards[0], "y": shards[1], "z": shards[0]}}
    (folder / "unet" / f"{whole.name}.index.json").write_text(json.dumps(index))
    whole.unlink()
    before = pretrained_parts(str(folder), parts=("unet",))
    (folder / "unet" / shards[1]).write_bytes(b"other")
    assert pretrained_parts(str(folder), parts=("unet",)) != before


def test_random_weights_are_named_by_seed_and_values():
    parts = pretrained_parts("tiny", random_weights=True, seed=5)
    # The VAE stays what it is, see load_backbone.
    assert parts["vae"] == pretrained_parts("tiny")["vae"]
    for part in ("unet", "text_encoder"):
        assert parts[part]["random"] is True
        assert parts[part]["seed"] == 5
        other = pretrained_parts("tiny", random_weights=True, seed=6)[part]
        assert other["sha256"] != parts[part]["sha256"] != pretrained_parts("tiny")[part]["sha256"]
    assert pretrained_parts("tiny", random_weights=True, seed=5) == parts


def _in_hub_cache(root: Path, source: str, folder: Path) -> None:
    """A folder as the hub's cache holds it: links to files that are named by their hashes."""
    place = root / f"models--{source.replace('/', '--')}"
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        blob = place / "blobs" / file_hash(path)
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link = place / "snapshots" / COMMIT / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)


def test_a_hub_s_parts_are_named_by_commit_and_hashed_as_in_a_folder(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _in_hub_cache(tmp_path / "hub", "someone/prior", folder)
    expected = _hashes(pretrained_parts(str(folder)))
    monkeypatch.setattr(files, "file_hash", None)  # their names are their hashes
    with pytest.warns(UserWarning, match="newest revision"):
        newest = pretrained_parts("someone/prior")
    pinned = pretrained_parts("someone/prior", revision=COMMIT)
    assert newest == pinned
    assert _hashes(pinned) == expected
    assert all(p["source"] == "someone/prior" and p["revision"] == COMMIT for p in pinned.values())
    # Another VAE has a source and a revision of its own.
    other = Preset("someone/prior", COMMIT, vae=str(folder / "vae"), architecture={
        part: json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae")
    })  # fmt: skip
    monkeypatch.setitem(PRESETS, "other", other)
    monkeypatch.setattr(files, "file_hash", file_hash)
    vae = pretrained_parts("other", parts=("vae",))["vae"]
    assert (vae["source"], vae["revision"]) == (str(folder / "vae"), None)
    gone = dataclasses.replace(other, vae="someone/vae", vae_revision=COMMIT)
    monkeypatch.setitem(PRESETS, "other", gone)
    with pytest.raises(lab.LabError, match=f"cannot load someone/vae at revision {COMMIT}"):
        pretrained_parts("other", parts=("vae",))


def test_a_hash_is_remembered_until_the_file_may_have_changed(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(files, "file_hash", lambda path: read.append(path) or file_hash(path))
    path = tmp_path / "weights"
    path.write_bytes(b"some weights")
    for _ in range(2):  # just written: a further change could leave no trace
        assert remembered_hash(path) == file_hash(path)
    assert len(read) == 2
    monkeypatch.setattr(files, "_SETTLED", 0)
    for _ in range(3):
        assert remembered_hash(path) == file_hash(path)
    assert len(read) == 3
    other = tmp_path / "other"
    other.write_bytes(b"OTHER weight")
    other.replace(path)
    assert remembered_hash(path) == file_hash(path)
    assert len(read) == 4


def test_prompts_are_embedded_by_their_texts(tmp_path):
    backbone = lab.load_backbone("tiny")
    path = tmp_path / "prompts.txt"
    path.write_text("a sharp photo\n")
    before = backbone.embed_prompts(str(path))
    path.write_text("a blurred photo\n")
    after = backbone.embed_prompts(str(path))
    assert not torch.allclose(before, after)
    assert torch.equal(after, backbone.embed_prompts(["a blurred photo"]))
