"""Checkpoints of DP-IQA's authors as folders of this lab: safetensors, opened by ``load_model``."""

import shutil
import tempfile
from pathlib import Path

import torch

from ..core.errors import LabError
from ..core.files import file_hash, write_json
from ..core.runs import Run, find_run
from ..diffusion.loading import empty_backbone
from ..models.official import load_official
from ..models.student import Student
from ..models.teacher import Teacher
from .checkpoints import find_weights, restore, save_weights


def convert(
    checkpoint: Path | str,
    folder: Path | str,
    prompt_embeddings: Path | str | torch.Tensor | None = None,
    backbone: str | None = None,
    trunk: str = "efficientnet_b7",
) -> Run:
    """Write an authors' checkpoint as a run folder, which then needs neither pickle nor CLIP.

    ``config.json`` says what the model is and which file it is from, ``checkpoints/
    best.safetensors`` holds all its values, VAE and prompt embeddings included.

    Args:
        checkpoint: their ``.pth``, of a teacher or a student.
        folder: absent or empty; whole or absent afterwards.
        prompt_embeddings, backbone: of a teacher, see ``load_official_teacher``.
        trunk: of a student.

    Raises:
        LabError: the folder holds something, or the checkpoint is refused.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"{folder} is there already: name another folder, or delete it.")
    model = load_official(checkpoint, prompt_embeddings, backbone, trunk)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(model, Path(checkpoint), temporary)
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    run = find_run(folder)
    run.write_summary("converted")
    return run


def load_converted(run: Run, weights: str = "best") -> Teacher | Student:
    """The model in a folder that ``convert`` wrote, ready to score.

    Raises:
        LabError: it has no such weights, or they do not fit.
    """
    config = run.config
    path = find_weights(run, weights)
    with torch.device("meta"):
        if config["kind"] == "student":
            model: Teacher | Student = Student(
                config["trunk"], config["image_size"], config["width"]
            )
        else:
            backbone = empty_backbone(config["backbone"], weights=config["converted_from"])
            model = Teacher(
                backbone,
                prompts=torch.empty(config["prompt_embeddings"]),
                timestep=config["timestep"],
                decoder_width=config["decoder_width"],
                vae_input=config["vae_input"],
                image_size=config["image_size"],
            )
    restore(model.load_whole_state, path)
    return model.eval()


def _write(model: Teacher | Student, checkpoint: Path, folder: Path) -> None:
    if isinstance(model, Student):
        config = {
            "kind": "student",
            "trunk": model.trunk_name,
            "width": model.regressor.fc3.in_features,
        }
    else:
        config = {
            "kind": "teacher",
            "backbone": model.backbone.name,
            "prompt_embeddings": list(model.prompt_embeddings.shape),
            "timestep": model.timestep,
            "decoder_width": model.quality_feature_decoder.regressor.fc3.in_features,
            "vae_input": model.vae_input,
        }
    config |= {"image_size": model.image_size, "converted_from": checkpoint.name}
    config["sha256"] = file_hash(checkpoint)
    save_weights(Run(folder, config, "new").checkpoints / "best.safetensors", model.state_dict())
    write_json(folder / "config.json", config)
