import pytest
import torch
import torch.nn.functional as F

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets.images import half_size
from dpiqa_lab.models.re_iqa import QualityEncoder, ReIqa, load_re_iqa

DEPTHS = (3, 4, 6, 3)


def released(seed):
    """A ResNet-50's tensors under torchvision's names, spelled out apart from the package."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def convolution(name, inputs, outputs, side):
        deviation = (2 / (inputs * side**2)) ** 0.5
        state[f"{name}.weight"] = deviation * torch.randn(
            outputs, inputs, side, side, generator=generator
        )

    def norm(name, channels):
        state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", 3, 64, 7)
    norm("bn1", 64)
    inputs = 64
    for i, depth in enumerate(DEPTHS):
        width = 64 * 2**i
        for j in range(depth):
            block = f"layer{i + 1}.{j}"
            for k, (a, b, side) in enumerate(
                ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1)), 1
            ):
                convolution(f"{block}.conv{k}", a, b, side)
                norm(f"{block}.bn{k}", b)
            if j == 0:
                convolution(f"{block}.downsample.0", inputs, 4 * width, 1)
                norm(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    return state


def by_hand(state, x):
    """The network of ``released``, the stride in the 3x3 convolution, average-pooled."""

    def norm(name, x):
        values = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values)

    x = F.relu(norm("bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for i, depth in enumerate(DEPTHS):
        for j in range(depth):
            block, stride = f"layer{i + 1}.{j}", 2 if i and not j else 1
            y = F.relu(norm(f"{block}.bn1", F.conv2d(x, state[f"{block}.conv1.weight"])))
            y = F.conv2d(y, state[f"{block}.conv2.weight"], stride=stride, padding=1)
            y = F.relu(norm(f"{block}.bn2", y))
            y = norm(f"{block}.bn3", F.conv2d(y, state[f"{block}.conv3.weight"]))
            if j == 0:
                x = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=stride)
                x = norm(f"{block}.downsample.1", x)
            x = F.relu(x + y)
    return x.mean((2, 3))


def saved(path, state, **more):
    model = {f"module.encoder.{name}": value for name, value in state.items()}
    model |= {"module.head.0.weight": torch.zeros(128, 2048), "module.head.0.bias": torch.zeros(1)}
    torch.save({"model": model, "epoch": 3, **more}, path)


@pytest.mark.medium
def test_released_checkpoints_give_8192_features(tmp_path):
    states = released(0), released(1)
    for name, state in zip(("quality", "content"), states, strict=True):
        saved(tmp_path / f"{name}.pth", state)
    model = load_re_iqa(tmp_path / "quality.pth", tmp_path / "content.pth")
    assert model.width == 8192
    assert sum(p.numel() for p in model.parameters()) == 2 * 23_508_032
    image = torch.rand(1, 3, 66, 50, generator=torch.Generator().manual_seed(2))
    half = half_size(image)
    assert half.shape == (1, 3, 33, 25)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    with torch.no_grad():
        found = model(image)
        expected = [
            *(by_hand(states[0], x) for x in (image, half)),
            *(by_hand(states[1], (x - mean) / deviation) for x in (image, half)),
        ]
    torch.testing.assert_close(found, torch.cat(expected, 1), rtol=1e-3, atol=1e-3)


def test_other_files_are_refused_by_name(tmp_path):
    torch.save({"model": {"module.conv1.weight": torch.zeros(3)}}, tmp_path / "a.pth")
    with pytest.raises(LabError, match=r"a\.pth.*none of Re-IQA's"):
        load_re_iqa(tmp_path / "a.pth")
    state = {name: value for name, value in released(0).items() if not name.startswith("layer4.2")}
    saved(tmp_path / "b.pth", state)
    with pytest.raises(LabError, match=r"b\.pth.*do not fit a resnet50"):
        load_re_iqa(content=tmp_path / "b.pth")
    with pytest.raises(LabError, match="give quality, content or both"):
        load_re_iqa()


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    saved(tmp_path / "bad.pth", {}, options=Touch(str(tmp_path / "touched")))
    with pytest.raises(LabError, match="not a file of plain tensors"):
        load_re_iqa(tmp_path / "bad.pth")
    assert not (tmp_path / "touched").exists()


def test_features_are_each_encoder_s_at_two_sizes():
    torch.manual_seed(0)
    encoders = [QualityEncoder("resnet_tiny"), QualityEncoder("resnet_tiny", normalise=True)]
    model = ReIqa(encoders).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found = model(images)
        assert found.shape == (2, model.width) == (2, 512)
        torch.testing.assert_close(found[:, 128:256], encoders[0](half_size(images)))
        torch.testing.assert_close(found[:, 256:384], encoders[1](images))
