"""The checkpoints that DP-IQA's authors released, opened as this lab's models.

Their names differ from ours and two of their layers are never used; the numbers are the same ones.
"""

from pathlib import Path

import torch
from torch import nn

from ..core.errors import LabError, listing
from ..core.pickles import read_state_dict, read_tensor
from ..diffusion.backbone import Backbone
from ..diffusion.loading import empty_backbone
from ..diffusion.presets import find_preset
from .student import Student
from .teacher import Teacher
from .trainable import misfits

# Our prefixes and theirs.
_TEACHER = {
    "backbone.unet.": "unet.",
    "backbone.vae.": "vae.",
    "text_adapter.gamma": "gamma",
    "text_adapter.fc.": "text_adapter.fc.",
    "image_adapter.": "img_adapter.",
    **{f"quality_feature_decoder.levels.{i}.0.": f"QFD.conv{i + 1}." for i in range(4)},
    **{f"quality_feature_decoder.levels.{i}.1.": f"QFD.se{i + 1}." for i in range(4)},
    "quality_feature_decoder.fuse.0.": "QFD.fuse_conv.",
    "quality_feature_decoder.fuse.1.": "QFD.se_fuse.",
    **{f"quality_feature_decoder.to_map.{2 * i}.": f"QFD.conv_score{i + 1}." for i in range(3)},
    "quality_feature_decoder.regressor.": "QFD.",
}
_STUDENT = {"trunk.": "base_model.", "to_map.": "conv_transpose.", "regressor.": ""}
# Outputs of ``QFD.classifier_dist``, which their code never runs; nor does it run ``QFD.bnc1``.
_DISTANCES = 24
# Prefixes that only one of the two has.
_DISTINCTIVE = {"teacher": "QFD.", "student": "base_model."}


def load_official_teacher(
    path: Path | str,
    prompt_embeddings: Path | str | torch.Tensor | None = None,
    backbone: str | Backbone | None = None,
) -> Teacher:
    """The teacher in one of the authors' checkpoints, as their code runs it, but deterministic.

    The VAE sees [0,1] (set ``teacher.vae_input = "[-1,1]"`` for what it was trained on), latents
    are the posterior mean where their code samples, and the timestep is 1.

    Args:
        path: their ``.pth`` (1,016 entries); ``{"state_dict": ...}`` and DataParallel's
            ``module.`` prefix are accepted.
        prompt_embeddings: (K, 768) embeddings of the prompts, K = 1,485 in the paper's code, or a
            ``.pth`` of them; ``None`` computes them with CLIP's text encoder, fetched on first use.
        backbone: the architecture that the checkpoint's U-Net and VAE have: a preset, hub id,
            folder or backbone (of which no weight is used or changed); ``None`` is "sd15". Nothing
            is downloaded for a preset.

    Returns:
        The teacher on the CPU, in float32, in evaluation mode.

    Raises:
        LabError: the file is missing, damaged, holds more than tensors, or its entries are not
            those expected; the message names them. Nothing in it is run.
    """
    return _teacher(Path(path), read_state_dict(path), _read(prompt_embeddings), backbone)


def load_official_student(path: Path | str, trunk: str = "efficientnet_b7") -> Student:
    """The student in one of the authors' checkpoints (1,206 entries).

    Args:
        path: as for ``load_official_teacher``.
        trunk: the EfficientNet in it.

    Returns:
        The student on the CPU, in float32, in evaluation mode.

    Raises:
        LabError: as ``load_official_teacher``.
    """
    return _student(Path(path), read_state_dict(path), trunk)


def load_official(
    path: Path | str,
    prompt_embeddings: Path | str | torch.Tensor | None = None,
    backbone: str | Backbone | None = None,
    trunk: str = "efficientnet_b7",
) -> Teacher | Student:
    """Teacher or student, whichever the checkpoint holds by its names."""
    state = read_state_dict(path)
    if any(name.startswith(_DISTINCTIVE["student"]) for name in state):
        return _student(Path(path), state, trunk)
    return _teacher(Path(path), state, _read(prompt_embeddings), backbone)


def official_names(model: Teacher | Student) -> dict[str, str]:
    """The authors' name of every entry of ``model.state_dict()`` that their checkpoint holds."""
    prefixes = _TEACHER if isinstance(model, Teacher) else _STUDENT
    names = {}
    for ours in model.state_dict():
        for prefix, theirs in prefixes.items():
            if ours.startswith(prefix):
                names[ours] = theirs + ours[len(prefix) :]
    return names


def expected_entries(model: Teacher | Student) -> dict[str, torch.Tensor]:
    """Every entry of the authors' checkpoint of such a model: their names, and tensors of the
    shapes and types they have, without values."""
    own = model.state_dict()
    entries = {
        theirs: own[ours].to(device="meta") for ours, theirs in official_names(model).items()
    }
    if isinstance(model, Teacher):
        width = model.quality_feature_decoder.regressor.fc3.in_features
        with torch.device("meta"):
            unused = {
                "QFD.bnc1": nn.BatchNorm2d(width),
                "QFD.classifier_dist": nn.Linear(width, _DISTANCES),
            }
        for name, layer in unused.items():
            entries |= layer.state_dict(prefix=f"{name}.")
    return entries


def _teacher(
    path: Path, state: dict, embeddings: torch.Tensor | None, backbone: str | Backbone | None
) -> Teacher:
    name = backbone.name if isinstance(backbone, Backbone) else backbone or "sd15"
    empty = empty_backbone(name, weights=path.name)
    width = empty.unet.config.cross_attention_dim
    if embeddings is not None and embeddings.shape[-2:] != (embeddings.numel() // width, width):
        raise LabError(
            f"prompt_embeddings are {tuple(embeddings.shape)}, expected (K, {width}), a row a "
            "prompt; the authors' code makes 1,485 of them."
        )
    with torch.device("meta"):
        teacher = Teacher(
            empty,
            prompts=torch.empty(1, 1, width),
            decoder_width=find_preset(name).decoder_width,
            vae_input="[0,1]",
        )
    state = _translate(path, state, teacher)
    # Memory for the weights; after the check, before CLIP is asked for what it may have to fetch.
    teacher.to_empty(device="cpu")
    if embeddings is None:
        try:
            embeddings = empty.embed_prompts()
        except LabError as error:
            raise LabError(f"{error} Or give prompt_embeddings, a .pth of them.") from error
    teacher.prompt_embeddings = embeddings.float().reshape(1, -1, width).clone()
    teacher.load_whole_state({**state, "prompt_embeddings": teacher.prompt_embeddings})
    return teacher.eval()


def _student(path: Path, state: dict, trunk: str) -> Student:
    with torch.device("meta"):
        student = Student(trunk)
    student.load_whole_state(_translate(path, state, student))
    return student.eval()


def _translate(path: Path, state: dict, model: Teacher | Student) -> dict[str, torch.Tensor]:
    """``state`` under our names.

    Raises:
        LabError: its entries are not those of the model.
    """
    problems = misfits(expected_entries(model), state)
    if problems:
        kind = type(model).__name__.lower()
        other = "student" if kind == "teacher" else "teacher"
        hint = ""
        if any(name.startswith(_DISTINCTIVE[other]) for name in state):
            hint = f" It looks like a {other}'s: use load_official_{other}."
        raise LabError(
            f"{path}: not a checkpoint of the authors' {kind}.{hint} "
            f"{len(problems)} of its entries are wrong:\n{listing(problems)}"
        )
    return {ours: state[theirs] for ours, theirs in official_names(model).items()}


def _read(embeddings: Path | str | torch.Tensor | None) -> torch.Tensor | None:
    return read_tensor(embeddings) if isinstance(embeddings, str | Path) else embeddings
