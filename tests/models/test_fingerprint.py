"""A fingerprint changes with whatever changes scores, and with nothing else."""

import copy
import inspect

import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.models.fingerprint import fingerprint
from dpiqa_lab.models.image_scorer import ImageScorer
from dpiqa_lab.models.pmt_iqa import PmtIqa
from dpiqa_lab.models.re_iqa import QualityEncoder, ReIqa

PROMPTS = ["a sharp photo", "a blurred photo"]
# Of each class: arguments of a small one, and of each argument another value.
TEACHER = {
    "backbone": lambda: lab.load_backbone("tiny"), "prompts": PROMPTS, "timestep": 1,
    "decoder_width": 8, "image_size": 128,
}  # fmt: skip
OTHER_TEACHER = {
    "backbone": lambda: lab.load_backbone("tiny", random_weights=True), "prompts": PROMPTS[:1],
    "timestep": 2, "decoder_width": 16, "text_adapter": False, "image_adapter": False,
    "vae_input": "[0,1]", "image_size": 64, "prompt_pooling": "mean", "decoder_head": "pooled",
    "up_blocks": 3, "patches": 2,
}  # fmt: skip
STUDENT = {"trunk": "efficientnet_tiny", "image_size": 64, "width": 8}
OTHER_STUDENT = {
    "trunk": "frequency", "image_size": 96, "width": 9, "head": "pooled", "normalise": True,
}  # fmt: skip
PMT = {"trunk": "resnet_tiny", "image_size": 64, "crop_size": 32}
OTHER_PMT = {"trunk": "resnet18", "image_size": 96, "crop_size": 64}
CASES = [
    (lab.Teacher, TEACHER, OTHER_TEACHER),
    (lab.Student, STUDENT, OTHER_STUDENT),
    (lab.Student, {**STUDENT, "head": "pooled"}, {"statistics": 3}),
    (PmtIqa, PMT, OTHER_PMT),
    (QualityEncoder, {"trunk": "resnet_tiny"}, {"trunk": "resnet18", "normalise": True}),
]
# What an argument changes is in the weights, which are given elsewhere in this test.
ONLY_WEIGHTS = {"weights"}


def _built(kind, arguments):
    torch.manual_seed(0)
    values = {k: v() if callable(v) else v for k, v in arguments.items()}
    model = kind(**values)
    return ReIqa([model]) if kind is QualityEncoder else model


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kind", "arguments", "name", "other"),
    [(kind, own, name, value) for kind, own, others in CASES for name, value in others.items()],
)
def test_every_argument_is_in_it(kind, arguments, name, other):
    assert fingerprint(_built(kind, arguments)) != fingerprint(
        _built(kind, {**arguments, name: other})
    )


def test_no_argument_of_a_class_that_scores_is_left_out():
    """A new argument, or a new class, has to be tried in the test above."""
    package = [c for c in ImageScorer.__subclasses__() if c.__module__.startswith("dpiqa_lab.")]
    assert set(package) < {kind for kind, *_ in CASES}
    for kind in {kind for kind, *_ in CASES}:
        tried = {name for case, _, others in CASES if case is kind for name in others}
        arguments = set(inspect.signature(kind.__init__).parameters) - {"self"}
        assert arguments - ONLY_WEIGHTS == tried, kind


@pytest.fixture(scope="module")
def teacher():
    return _built(lab.Teacher, TEACHER)


@pytest.mark.parametrize(
    ("part", "name"), [("unet", "attention_head_dim"), ("vae", "scaling_factor")]
)
def test_how_a_backbone_computes_is_in_it(teacher, part, name):
    before = fingerprint(teacher)
    module = getattr(teacher.backbone, part)
    known = module.config[name]
    module.register_to_config(**{name: 4 * known})
    try:
        assert fingerprint(teacher) != before
    finally:
        module.register_to_config(**{name: known})
    assert fingerprint(teacher) == before


@pytest.mark.parametrize("which", ["parameter", "prompt", "statistic"])
def test_every_weight_and_buffer_is_in_it(teacher, which):
    model = copy.deepcopy(teacher) if which != "statistic" else _built(lab.Student, STUDENT)
    before = fingerprint(model)
    with torch.no_grad():
        if which == "parameter":
            model.image_adapter.conv_in.bias[0] += 1e-3
        elif which == "prompt":
            model.prompt_embeddings[0, 0, 0] += 1e-3
        else:
            model.trunk.features[0][1].running_var[0] += 1e-3
    assert fingerprint(model) != before


@pytest.mark.medium
def test_place_layout_type_and_mode_are_not(teacher):
    before = fingerprint(teacher)
    assert len(before) == 64
    model = copy.deepcopy(teacher)
    assert fingerprint(model.train()) == fingerprint(model.eval()) == before
    assert fingerprint(model.to(memory_format=torch.channels_last)) == before
    assert fingerprint(model.requires_grad_(False)) == before
    model.set_trainable("decoder")
    assert fingerprint(model) == before
    assert fingerprint(model.double()) == before
    assert fingerprint(model.half()) != before  # rounded
    model = _built(lab.Teacher, TEACHER)
    assert fingerprint(model) == before
    assert fingerprint(model.to("cpu")) == before


def test_scoring_leaves_it_alone(teacher):
    before = fingerprint(teacher)
    teacher.score([torch.rand(3, 128, 128)], device="cpu")
    assert fingerprint(teacher) == before
