"""The student and its EfficientNet, against plain formulas, published sizes and another library."""

from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

import dpiqa_lab as lab
from dpiqa_lab.models.efficientnet import (
    VARIANTS,
    EfficientNet,
    _Block,
    _ChannelGate,
    _convolution,
    _EvenConv2d,
)
from dpiqa_lab.models.pooled_regressor import PooledHead
from dpiqa_lab.models.trunks import IMAGENET
from tests.support.networks import stir


def _layer(norm):
    return partial(_convolution, convolution=_EvenConv2d, norm=norm, activation=torch.nn.SiLU)


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return stir(lab.Student("efficientnet_b0", image_size=64, width=16)).eval()


def test_every_variant_has_the_published_size():
    """Parameters that torchvision states for its classifiers, less the classifier itself."""
    whole = [
        5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704, 66_347_960,
        # timm's of the Lite ones.
        4_652_008, 5_416_680, 6_092_072,
    ]  # fmt: skip
    published = [variant for variant in VARIANTS if variant != "efficientnet_tiny"]
    for variant, parameters in zip(published, whole, strict=True):
        with torch.device("meta"):
            trunk = EfficientNet(variant)
        classifier = 1000 * trunk.channels + 1000
        assert sum(p.numel() for p in trunk.parameters()) == parameters - classifier, variant


def test_the_published_student_has_81_million_parameters():
    with torch.device("meta"):
        student = lab.Student()
    counts = {name: round(n / 1e6, 1) for name, n in student.parameter_counts().items()}
    assert counts == {"trunk": 63.8, "to_map": 0.2, "regressor": 17.0}
    assert student.trunk.features[0][1].eps == 1e-3
    assert student.trunk.features[0][1].momentum == 0.01


def _transformers_trunk(trunk, padding):
    """transformers' EfficientNet-B0 with the trunk's weights and even padding, or its own."""
    from transformers import EfficientNetConfig, EfficientNetModel

    config = EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, batch_norm_eps=1e-5
    )
    model = EfficientNetModel(config).eval()
    theirs, ours = model.state_dict(), trunk.state_dict()
    assert [v.shape for v in theirs.values()] == [v.shape for v in ours.values()]
    model.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    if padding == "even":
        convolutions = [(model.embeddings.padding, 3)]
        for block in model.encoder.blocks:
            layer = block.depthwise_conv
            if layer.stride == 2:
                kernel = layer.depthwise_conv.kernel_size[0]
                convolutions.append((layer.depthwise_conv_pad, kernel))
        assert len(convolutions) == 5
        for pad, kernel in convolutions:
            pad.padding = ((kernel - 1) // 2,) * 4
    return model


@torch.no_grad()
def test_trunk_equals_transformers_but_for_the_padding(student):
    images = torch.rand(2, 3, 96, 64)
    features = student.trunk(images)
    assert features.shape == (2, 1280, 3, 2)
    even, uneven = (
        _transformers_trunk(student.trunk, p)(images).last_hidden_state for p in ("even", "its own")
    )
    assert torch.allclose(features, even, atol=1e-5 * features.abs().max())
    assert not torch.allclose(features, uneven, atol=0.01 * features.abs().max())


@torch.no_grad()
def test_inverted_bottleneck_formula():
    torch.manual_seed(0)
    layer = _layer(torch.nn.BatchNorm2d)
    block = stir(_Block(8, 8, 6, 5, 1, 0.5, layer, gated=True)).eval()
    state = block.state_dict()

    def normed(x, name):
        mean, var, weight, bias = (
            state[f"block.{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def swish(x):
        return x * torch.sigmoid(x)

    x = torch.randn(2, 8, 7, 6)
    y = swish(normed(F.conv2d(x, state["block.0.0.weight"]), "0.1"))
    y = F.conv2d(y, state["block.1.0.weight"], padding=2, groups=48)
    y = swish(normed(y, "1.1"))
    squeezed = y.mean((2, 3))[..., None, None]
    gate = swish(F.conv2d(squeezed, state["block.2.fc1.weight"], state["block.2.fc1.bias"]))
    gate = torch.sigmoid(F.conv2d(gate, state["block.2.fc2.weight"], state["block.2.fc2.bias"]))
    y = normed(F.conv2d(y * gate, state["block.3.0.weight"]), "3.1")
    assert state["block.2.fc1.weight"].shape == (2, 48, 1, 1)  # a quarter of what comes in
    assert torch.allclose(block(x), x + y, atol=1e-5)
    assert block(x).shape == x.shape
    assert not _Block(8, 16, 6, 3, 1, 0.0, layer, gated=True).residual
    assert not _Block(8, 8, 6, 3, 2, 0.0, layer, gated=True).residual


def test_a_gate_leaves_shapes_and_only_shrinks():
    x = torch.rand(2, 8, 5, 3)
    gated = _ChannelGate(8, 2)(x)
    assert gated.shape == x.shape
    assert ((gated > 0) & (gated < x)).all()


@torch.no_grad()
def test_stochastic_depth_skips_photographs_in_training_alone():
    torch.manual_seed(0)
    block = _Block(8, 8, 1, 3, 1, 0.25, _layer(torch.nn.Identity), gated=True)
    x = torch.randn(1, 8, 4, 4).expand(4000, -1, -1, -1)
    whole = block.eval()(x[:1]) - x[:1]
    added = block.train()(x) - x
    skipped = (added == 0).flatten(1).all(1)
    assert skipped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.allclose(added[~skipped], whole / 0.75, atol=1e-5)
    drops = [m.drop for m in EfficientNet().modules() if isinstance(m, _Block)]
    assert drops == pytest.approx([0.2 * i / 16 for i in range(16)])


@torch.no_grad()
def test_student_formula(student):
    images = torch.rand(2, 3, 64, 64)
    score, feature_map, _ = student(images)
    features = student.trunk(images)
    # A transposed convolution as its definition has it: every input adds its kernel to the output.
    weight, bias = student.to_map.weight, student.to_map.bias
    height, width = features.shape[-2:]
    canvas = torch.zeros(2, 8, 2 * height + 2, 2 * width + 2)
    for i in range(height):
        for j in range(width):
            stamp = torch.einsum("bc,cokl->bokl", features[:, :, i, j], weight)
            canvas[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += stamp
    small = F.relu(canvas[:, :, 1 : 1 + 2 * height, 1 : 1 + 2 * width] + bias[:, None, None])
    repeated = small.repeat_interleave(16, 2).repeat_interleave(16, 3)  # nearest: 4x4 to 64x64
    assert torch.allclose(feature_map, repeated, atol=1e-5 * repeated.abs().max())
    state = student.regressor.state_dict()
    x = feature_map.flatten(1)
    for layer in ("fc1", "fc2"):
        x = F.relu(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])
    expected = x @ state["fc3.weight"].T + state["fc3.bias"]
    assert torch.allclose(score, expected[:, 0], atol=1e-5)


def test_scores_do_not_depend_on_the_batch(student):
    photographs = [torch.rand(3, 64, 80) for _ in range(3)]
    scores = student.score(photographs)
    assert scores.shape == (3,)
    assert np.allclose(scores, student.score(photographs, batch_size=1), atol=1e-6)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("size", [32, 100, 224])
def test_any_size_gives_a_map_of_64(student, size):
    with torch.no_grad():
        assert student(torch.rand(1, 3, size, size)).feature_map.shape == (1, 8, 64, 64)


def test_a_checkpoint_keeps_all_that_training_changes():
    torch.manual_seed(0)
    first, second = (lab.Student("efficientnet_b0", image_size=64, width=16) for _ in range(2))
    images = torch.rand(4, 3, 64, 64)
    output = first.train()(images)
    (output.score.square().mean() + output.feature_map.square().mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())
    second.load_run_state(first.run_state())
    with torch.no_grad():
        assert torch.equal(first.eval()(images).score, second.eval()(images).score)
    state = dict(first.run_state())
    del state["trunk.features.8.1.running_var"]
    with pytest.raises(lab.LabError, match=r"missing trunk\.features\.8\.1\.running_var"):
        second.load_run_state(state)


@torch.no_grad()
def test_the_pooled_head_formula_and_size():
    torch.manual_seed(0)
    student = lab.Student("efficientnet_tiny", 64, 16, "pooled", normalise=True, statistics=2)
    stir(student).eval()
    expected = 2 * 2 * 520 + 2 * 520 * 16 + 16 + 16 * 3 + 3 + 2 * 520 + 1
    assert student.parameter_counts()["regressor"] == expected
    images = torch.rand(2, 3, 64, 96)
    score, feature_map, statistics = student(images)
    assert feature_map.shape == (2, 8, 64, 64)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in IMAGENET)
    features = student.trunk((images - mean) / deviation)
    maps = [features.flatten(2).numpy(), feature_map.flatten(2).numpy()]
    means = np.concatenate([m.mean(2) for m in maps], axis=1)
    deviations = np.concatenate([np.log(m.var(2) + 1e-4) / 2 for m in maps], axis=1)
    x = np.concatenate([scipy.stats.zscore(part, axis=1) for part in (means, deviations)], axis=1)
    state = {k: v.numpy() for k, v in student.regressor.state_dict().items()}
    hidden = np.maximum(x @ state["fc1.weight"].T + state["fc1.bias"], 0)
    expected = hidden @ state["fc2.weight"].T + state["fc2.bias"]
    told = np.concatenate([score[:, None], statistics], axis=1)
    assert np.allclose(told, expected, atol=1e-3 * np.abs(expected).max())
    usual, spread, weight = torch.randn(2 * 520), torch.rand(2 * 520) + 1, torch.randn(2 * 520)
    student.regressor.correct(usual, spread, weight, 5.0)
    line = ((x - usual.numpy()) / spread.numpy()) @ weight.numpy() + 5
    corrected = student(images)
    assert np.allclose(corrected.score, expected[:, 0] + line, atol=1e-3 * np.abs(line).max())
    assert torch.equal(corrected.statistics, statistics)
    student.regressor.correct()
    assert torch.equal(student(images).score, score)


def test_the_pooled_head_learns_from_constant_maps_too():
    head = PooledHead(3, 4)
    maps = torch.ones(2, 3, 5, 5, requires_grad=True)
    head(maps).sum().backward()
    assert maps.grad.isfinite().all()


@pytest.mark.parametrize(
    "options", [{"trunk": "efficientnet_b8"}, {"image_size": 16}, {"head": "flatt"}]
)
def test_impossible_students_are_refused(options):
    with pytest.raises(lab.LabError, match=r"trunk|image_size|Did you mean 'flat'"):
        lab.Student(**{"trunk": "efficientnet_b0", **options})
