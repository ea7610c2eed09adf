"""Full size: what the published architecture gives for weights and an image made by rule.

The reference numbers were computed with the authors' published architecture in float32. The rules
that make weights and image by numpy are below; names and shapes are our loader's own.
"""

import math
import zlib

import numpy as np
import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.diffusion.loading import empty_backbone
from dpiqa_lab.models.official import expected_entries

POSITIONS = [0, 1000, 5000, 12345, 20000, 32767]
TEACHER = {
    "[0,1]": {
        "score": -0.10555744171142578,
        "mean": 0.29049624163184523,
        "std": 0.40385785465273305,
        "max": 2.469677448272705,
        "sample": [0.0875847116112709, 0.0, 0.0, 0.182244673371315, 0.35536596179008484, 0.0],
    },
    "[-1,1]": {
        "score": -0.08491846919059753,
        "mean": 0.29851235195626913,
        "std": 0.4417083712760058,
        "max": 2.431896448135376,
        "sample": [0.1103418618440628, 0.0, 0.0, 0.38916492462158203, 0.0, 0.0],
    },
}
STUDENT = {
    "score": -0.9561835527420044,
    "mean": 1.0454572123824164,
    "std": 1.6021172912692225,
    "max": 9.34100341796875,
    "sample": [
        0.28007373213768005,
        0.0,
        1.848954200744629,
        1.475318193435669,
        0.0,
        1.000702142715454,
    ],
}


def _rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def _value(name, like):
    shape = tuple(like.shape)
    if not like.is_floating_point() or name.endswith("running_mean"):
        return torch.zeros(shape, dtype=like.dtype)
    if name.endswith("running_var"):
        return torch.full(shape, 0.5)
    drawn = _rng(name).standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        drawn = drawn / np.float32(math.sqrt(math.prod(shape[1:])))
    elif name == "gamma":
        drawn = np.float32(0.1) * drawn
    elif name.endswith("weight"):
        drawn = 1 + np.float32(0.1) * drawn
    else:
        drawn = np.float32(0.05) * drawn
    return torch.from_numpy(drawn)


def _save(model, path):
    torch.save({name: _value(name, like) for name, like in expected_entries(model).items()}, path)


@pytest.fixture(scope="module")
def image():
    generator = _rng("image_a")
    blocks = generator.random((1, 3, 16, 16), dtype=np.float32)
    noise = generator.random((1, 3, 512, 512), dtype=np.float32)
    large = np.kron(blocks, np.ones((1, 1, 32, 32), np.float32))
    return torch.from_numpy(np.float32(0.7) * large + np.float32(0.3) * noise)


@torch.no_grad()
def _check(model, image, expected):
    """Largest deviation of score and map in float32, as shares of the largest reference value."""
    score, feature_map = model(image)[:2]
    assert feature_map.shape == (1, 8, 64, 64)
    found = {
        "score": score.item(),
        "mean": feature_map.mean().item(),
        "std": feature_map.std().item(),
        "max": feature_map.max().item(),
        "sample": feature_map.flatten()[POSITIONS].tolist(),
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, rough_map = model(image)[:2]
    largest = expected["max"]
    off = max(np.abs(np.subtract(found[key], expected[key])).max() for key in found if key != "std")
    print(
        f"float32: score off by {abs(found['score'] - expected['score']):.1e}, largest deviation "
        f"{off / largest:.1e} of {largest:.3f}; bfloat16: score {rough.item():.5f} against "
        f"{found['score']:.5f}, map off by at most "
        f"{(rough_map.float() - feature_map).abs().max().item() / largest:.1e} and "
        f"{(rough_map.float() - feature_map).square().mean().sqrt().item() / largest:.1e} (rms) "
        "of its largest value"
    )
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=0, abs=1e-4 * largest), key
    assert found["score"] == pytest.approx(expected["score"], abs=1e-4 * abs(expected["score"]))


@pytest.mark.slow
def test_the_teacher_gives_the_known_answers(image, tmp_path):
    path = tmp_path / "teacher.pth"
    with torch.device("meta"):
        model = lab.Teacher(empty_backbone("sd15", ""), torch.empty(1, 1, 768))
    _save(model, path)
    prompts = 0.3 * _rng("prompt_embeddings").standard_normal((1485, 768), dtype=np.float32)
    teacher = lab.load_official_teacher(path, torch.from_numpy(prompts))
    for vae_input, expected in TEACHER.items():
        teacher.vae_input = vae_input
        _check(teacher, image, expected)


@pytest.mark.slow
def test_the_student_gives_the_known_answers(image, tmp_path):
    path = tmp_path / "student.pth"
    with torch.device("meta"):
        model = lab.Student()
    _save(model, path)
    _check(lab.load_official_student(path), image, STUDENT)
