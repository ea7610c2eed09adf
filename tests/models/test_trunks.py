"""Trunks by name: shapes, and published weights taken from other libraries' layouts."""

import pytest
import torch
from safetensors.torch import save_file

import dpiqa_lab as lab
from dpiqa_lab.models.transformers_trunk import TransformersTrunk
from dpiqa_lab.models.trunks import TRUNKS, find_trunk, load_trunk
from tests.support.networks import stir

MILLIONS = {
    "efficientnet_b0": 4.0, "efficientnet_b7": 63.8, "efficientnet_tiny": 0.6,
    "convnext_tiny": 27.8, "mobilenet_v2": 2.2, "dinov2_small": 22.1,
    "frequency": 1.0, "efficientnet_lite0": 3.4, "efficientnet_lite2": 4.8,
}  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_gives_features_of_its_channels(name):
    with torch.device("meta"):
        trunk = find_trunk(name).build().eval()
        features = trunk(torch.empty(2, 3, 96, 128))
    stride = {"dinov2_small": 14, "frequency": 8}.get(name, 32)
    assert features.shape == (2, trunk.channels, 96 // stride, 128 // stride)
    if name in MILLIONS:
        count = sum(p.numel() for p in trunk.parameters()) / 1e6
        assert round(count, 1) == MILLIONS[name]


@pytest.mark.parametrize("name", ["convnext_tiny", "mobilenet_v2", "dinov2_small"])
def test_a_student_around_each_library_trunk_trains(name):
    student = lab.Student(name, image_size=64, width=4, head="pooled", normalise=True)
    output = student(torch.rand(2, 3, 64, 64))
    assert output.feature_map.shape == (2, 8, 64, 64)
    (output.score.sum() + output.feature_map.mean()).backward()
    first = next(student.trunk.parameters())
    assert first.grad.isfinite().all()
    assert first.grad.abs().sum() > 0


@torch.no_grad()
def test_tokens_lie_where_their_patches_do():
    """Against transformers' own folding of the same weights, on pictures that are not square."""
    from transformers import AutoBackbone, Dinov2Config

    options = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
               "patch_size": 14, "image_size": 56}  # fmt: skip
    trunk = TransformersTrunk("dinov2", **options).eval()
    theirs = AutoBackbone.from_config(Dinov2Config(**options, out_features=["stage2"])).eval()
    theirs.load_state_dict(trunk.model.state_dict())
    images = torch.rand(2, 3, 60, 90)
    features = trunk(images)
    assert features.shape == (2, 16, 4, 6)
    assert torch.allclose(features, theirs(images).feature_maps[0], atol=1e-5)


@torch.no_grad()
def test_weights_of_transformers_efficientnet_fit(tmp_path):
    """Saved as a classifier with TensorFlow's epsilon; equal once the padding is even, too."""
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    sizes = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
    torch.manual_seed(0)
    theirs = EfficientNetForImageClassification(EfficientNetConfig(**sizes, batch_norm_eps=1e-3))
    stir(theirs).eval().save_pretrained(tmp_path)
    trunk = find_trunk("efficientnet_b0").build().eval()
    load_trunk(trunk, "efficientnet_b0", str(tmp_path))
    model = theirs.efficientnet
    model.embeddings.padding.padding = (1, 1, 1, 1)
    for block in model.encoder.blocks:
        layer = block.depthwise_conv
        if layer.stride == 2:
            even = (layer.depthwise_conv.kernel_size[0] - 1) // 2
            layer.depthwise_conv_pad.padding = (even,) * 4
    images = torch.rand(2, 3, 96, 64)
    features, expected = trunk(images), model(images).last_hidden_state
    assert torch.allclose(features, expected, atol=1e-4 * expected.abs().max())
    other = find_trunk("efficientnet_b1").build()
    with pytest.raises(lab.LabError, match="another EfficientNet"):
        load_trunk(other, "efficientnet_b1", str(tmp_path))


def test_weights_of_a_library_trunk_come_without_their_classifier(tmp_path):
    from transformers import ConvNextConfig, ConvNextForImageClassification

    options = {"hidden_sizes": [4, 8, 8, 12], "depths": [1, 1, 1, 1]}
    theirs = ConvNextForImageClassification(ConvNextConfig(**options))
    theirs.save_pretrained(tmp_path)
    trunk = TransformersTrunk("convnext", **options)
    load_trunk(trunk, "convnext_tiny", str(tmp_path))
    own = trunk.model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in theirs.convnext.state_dict().items())
    whole = find_trunk("efficientnet_tiny").build()
    with pytest.raises(lab.LabError, match="holds a convnext, not an EfficientNet"):
        load_trunk(whole, "efficientnet_tiny", str(tmp_path))
    wider = TransformersTrunk("convnext", **{**options, "hidden_sizes": [4, 8, 8, 16]})
    with pytest.raises(lab.LabError, match=r"(?s)do not fit the trunk.*expected \(16"):
        load_trunk(wider, "convnext_tiny", str(tmp_path))


def test_files_in_torchvision_s_layout_fit(tmp_path):
    first, second, third = (find_trunk("efficientnet_tiny").build() for _ in range(3))
    state = {**first.state_dict(), "classifier.1.weight": torch.zeros(2, 512)}
    torch.save(state, tmp_path / "tiny.pth")
    load_trunk(second, "efficientnet_tiny", str(tmp_path / "tiny.pth"))
    save_file(dict(first.state_dict()), tmp_path / "tiny.safetensors")
    load_trunk(third, "efficientnet_tiny", str(tmp_path / "tiny.safetensors"))
    for trunk in (second, third):
        assert all(torch.equal(trunk.state_dict()[k], v) for k, v in first.state_dict().items())
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    for weights, message in (
        ("bad.safetensors", "no readable weights"), ("none.pth", "no such file"),
        ("nowhere", "expected 'none', 'hub', 'hub@"),
    ):  # fmt: skip
        with pytest.raises(lab.LabError, match=message):
            load_trunk(first, "efficientnet_tiny", str(tmp_path / weights))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_tiny", "no weights of 'efficientnet_tiny' are published"),
        ("mobilenet_v2", r"cannot load trunk weights from google/mobilenet_v2.*"),
    ],
)
def test_hub_weights_that_cannot_be_had_are_told(name, message):
    with pytest.raises(lab.LabError, match=message):
        load_trunk(find_trunk(name).build(), name, "hub")
