"""Locations of the files of a backbone's parts, and readable errors where they are missing."""

import warnings
from pathlib import Path

from ..core.errors import LabError
from ..core.files import read_json
from .presets import PRESETS, Preset, find_preset

_HUB_ERRORS = (
    "GatedRepoError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
    "LocalEntryNotFoundError",
    "EntryNotFoundError",
    "HfHubHTTPError",
    "HFValidationError",
    "OfflineModeIsEnabled",
)


def find_place(name: str, revision: str | None) -> tuple[Preset, Path | None, str | None]:
    """Preset, and its folder or else its hub revision."""
    preset = find_preset(name)
    folder = Path(preset.source).expanduser()
    if folder.is_dir():
        return preset, folder, None
    if preset.source.count("/") != 1 or preset.source.startswith((".", "/")):
        raise LabError(
            f"no backbone {name!r}: expected one of {', '.join(PRESETS)}, a hub id such as "
            "'owner/name', or a folder in diffusers layout."
        )
    revision = revision or preset.revision
    if revision is None:
        warnings.warn(
            f"{name} is taken at its newest revision, which may change: pin it by revision='…', a "
            "commit of its page.",
            stacklevel=3,
        )
    return preset, None, revision


def source_name(name: str, preset: Preset, folder: Path | None) -> str:
    """Source of a backbone: a hub id, a folder, or the name of the embedded one."""
    return name if folder and name in PRESETS else preset.source


def is_random(part: str, name: str, folder: Path | None, random_weights: bool) -> bool:
    """Whether the "unet" or the "vae" is drawn by a seed, see ``load_backbone``."""
    if name == "tiny" and folder and not list(folder.glob("unet/*.safetensors")):
        random_weights = True
    own_vae = part == "vae" and folder and list(folder.glob("vae/*.safetensors"))
    return random_weights and not own_vae


def part_files(
    part: str, preset: Preset, folder: Path | None, revision: str | None
) -> tuple[str, str | None, str | None]:
    """Hub id or folder, sub-folder and hub revision of the files of the "unet" or the "vae"."""
    if part == "vae" and preset.vae:
        return preset.vae, None, preset.vae_revision
    return str(folder or preset.source), part, revision


def part_config(preset: Preset, folder: Path | None, revision: str | None, part: str) -> dict:
    """Configuration of the "unet" or the "vae", from the preset or from beside the weights."""
    if preset.architecture:
        return preset.architecture[part]
    if folder:
        path = folder / part / "config.json"
        if not path.is_file():
            raise LabError(f"{folder} is not in diffusers layout: {part}/config.json is missing.")
    else:
        from huggingface_hub import hf_hub_download

        try:
            path = Path(
                hf_hub_download(preset.source, "config.json", subfolder=part, revision=revision)
            )
        except (OSError, ValueError) as error:
            raise explain(error, preset.source, revision) from error
    return read_json(path)


def explain(error: Exception, source: str, revision: str | None) -> LabError:
    """A readable error for a failed load."""
    chain = [type(e).__name__ for e in (error, error.__cause__, error.__context__) if e]
    kind = next((name for name in chain if name in _HUB_ERRORS), chain[0])
    where = f"{source} at revision {revision}" if revision else source
    if "Gated" in kind:
        advice = "it is gated: accept its terms on its page and log in with `hf auth login`"
    elif kind in ("LocalEntryNotFoundError", "OfflineModeIsEnabled") or "Connect" in kind:
        advice = "it is not in the local cache and the hub cannot be reached: check the network"
    elif kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        advice = "the hub has no such repository or revision, or it is private: check the name"
    else:
        advice = f"{kind}: {str(error).splitlines()[0][:200]}"
    return LabError(
        f"cannot load {where}: {advice}. Without a download: backbone='tiny', a local folder in "
        "diffusers layout, or random_weights=True for the architecture alone."
    )
