"""What a run's model is made of: its own weights, and the pretrained parts that these lack."""

from collections.abc import Sequence

from ..core.errors import LabError
from ..core.files import json_hash, read_json, remembered_hash
from ..core.runs import Run
from ..diffusion.pretrained import ROLES, pretrained_parts
from .checkpoints import find_weights


def run_fingerprint(run: Run) -> dict[str, str]:
    """SHA-256 of all that the model of a run depends on, by what it is of.

    Returns:
        weights (the file of the best ones) and config (the parameters); of a teacher unet and vae
        (see ``pretrained_parts``) too, as they are found now.

    Raises:
        LabError: the run has no such weights yet, or a pretrained part is missing.
    """
    found = {
        "weights": remembered_hash(find_weights(run, "best")),
        "config": json_hash(run.config),
    }
    if "backbone" in run.config and "converted_from" not in run.config:
        parts = _parts_now(run, ("unet", "vae"))
        found |= {part: named["sha256"] for part, named in parts.items()}
    return found


def recorded_parts(run: Run) -> dict[str, dict]:
    """Pretrained parts of the backbone that a run's record names; none in earlier versions."""
    path = run.path / "identity.json"
    models = read_json(path).get("models", {}) if path.is_file() else {}
    return {part: models[role] for part, role in ROLES.items() if role in models}


def recorded_revision(run: Run) -> str | None:
    """Hub revision of a run's backbone: the commit that its record names, or the one asked for."""
    return recorded_parts(run).get("unet", {}).get("revision") or run.config["revision"]


def check_pretrained(run: Run, parts: Sequence[str]) -> None:
    """Make sure that pretrained parts are those that a run was trained on, where it names them.

    Args:
        parts: of "unet", "vae" and "text_encoder", those that its weights lack.

    Raises:
        LabError: another one is found now, or none.
    """
    recorded = {part: known for part, known in recorded_parts(run).items() if part in parts}
    for part, now in _parts_now(run, tuple(recorded)).items():
        known = recorded[part]
        if now["sha256"] != known["sha256"]:
            what = ROLES[part].removeprefix("backbone's ")
            raise LabError(
                f"the {what} of {run.config['backbone']} is another one than run {run.name} was "
                f"trained on: {_described(now)} here, {_described(known)} then. Put back the "
                "files of then, or train again."
            )


def _parts_now(run: Run, parts: Sequence[str]) -> dict[str, dict]:
    config, revision = run.config, recorded_revision(run)
    return pretrained_parts(
        config["backbone"], config["random_weights"], revision, config["seed"], parts
    )


def _described(part: dict) -> str:
    if part.get("random"):
        return f"weights drawn by seed {part['seed']}, hash {part['sha256'][:12]}"
    revision = f" at {part['revision'][:12]}" if part.get("revision") else ""
    return f"{part['source']}{revision}, hash {part['sha256'][:12]}"
