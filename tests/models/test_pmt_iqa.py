import math

import pytest
import torch
import torch.nn.functional as F

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.models.pmt_iqa import PmtIqa, PmtOutput, easy_to_hard, four_crops, quality_classes
from dpiqa_lab.models.resnet import ResNet


def test_parameters_of_the_published_network():
    with torch.device("meta"):
        network = PmtIqa()
    trunk = sum(p.numel() for p in network.trunk.parameters())
    # torchvision's ResNet-50 has 25,557,032, its classifier 2048 x 1000 + 1000 of them.
    assert trunk == 25_557_032 - 2_049_000
    convolutions = 256 * 16 + 512 * 32 + 1024 * 64
    looks = sum(inputs * 28 + 28 for inputs in (16 * 64, 32 * 16, 64 * 4, 2048))
    shared = 112 * 112 + 112 + 112 * 14 + 14
    heads = 14 + 1 + 14 * 14 + 14 + 14 * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == (
        trunk + convolutions + looks + shared + heads
    )


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PmtIqa("resnet_tiny", image_size=256).eval()


def test_pooling_is_over_seven_positions_at_224(network):
    crop = torch.rand(1, 3, 224, 224)
    seen = []
    for layer in network.look:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stages = []
    network.trunk.register_forward_hook(lambda _, __, output: stages.extend(output))
    with torch.no_grad():
        network(crop)
        expected = F.avg_pool2d(network.reduce[0](stages[0]), 7).flatten(1)
    assert [x.shape[1] for x in seen] == [16 * 64, 32 * 16, 64 * 4, 128]
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(seen[3], stages[3].mean((2, 3)))


def test_a_photograph_s_score_is_the_mean_of_its_crops(network):
    images = torch.rand(2, 3, 256, 320)
    crops = four_crops(images, 224)
    corners = [(y, x) for y in (0, 32) for x in (0, 96)]
    for crop, (y, x) in zip(crops, corners, strict=True):
        assert torch.equal(crop, images[:, :, y : y + 224, x : x + 224])
    with torch.no_grad():
        whole = network(images)
        apart = [network(crop) for crop in crops]
    torch.testing.assert_close(whole.score, torch.stack([o.score for o in apart]).mean(0))
    assert whole.logits.shape == (2, 10)


def test_crops_lie_in_the_middles_of_the_quarters_where_there_is_room():
    image = torch.arange(512).expand(1, 1, 512, 512)
    assert [crop[0, 0, 0, 0].item() for crop in four_crops(image, 224)] == [16, 272] * 2
    assert len(four_crops(image[..., :224, :224], 224)) == 1


def test_classes_are_tenths():
    mos = torch.tensor([-0.1, 0.0, 0.05, 0.1, 0.55, 0.95, 1.0])
    assert quality_classes(mos).tolist() == [0, 0, 0, 1, 5, 9, 9]


def test_loss_by_hand():
    output = PmtOutput(torch.tensor([0.5, 0.2]), torch.zeros(2, 10))
    mos = torch.tensor([0.9, 0.1])
    assert easy_to_hard(output, mos, 0.0, 100).item() == pytest.approx(math.log(10))
    assert easy_to_hard(output, mos, 1.0, 100).item() == pytest.approx(100 * (0.4 + 0.1) / 2)
    mixed = 0.25 * 25 + 0.75 * math.log(10)
    assert easy_to_hard(output, mos, 0.25, 100).item() == pytest.approx(mixed)


def test_impossible_sizes_and_weights_are_refused(tmp_path):
    with pytest.raises(LabError, match="multiple of 32"):
        PmtIqa("resnet_tiny", crop_size=100)
    with pytest.raises(LabError, match="at most image_size"):
        PmtIqa("resnet_tiny", image_size=128)
    with pytest.raises(LabError, match=r"Did you mean 'resnet50'"):
        PmtIqa("resnet51")
    with pytest.raises(LabError, match=r"no folder with a config\.json"):
        ResNet("resnet18", str(tmp_path))
    with pytest.raises(LabError, match="resnet_tiny"):
        ResNet("resnet_tiny", "hub")


def test_weights_come_from_a_folder_that_fits(tmp_path):
    torch.manual_seed(1)
    source = ResNet("resnet_tiny")
    source.model.save_pretrained(tmp_path)
    taken = ResNet("resnet_tiny", str(tmp_path)).state_dict()
    assert all(torch.equal(taken[name], value) for name, value in source.state_dict().items())
    with pytest.raises(LabError, match="do not fit a resnet18"):
        ResNet("resnet18", str(tmp_path))
