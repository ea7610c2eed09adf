"""The authors' checkpoints: opened as they mean them, refused when they are something else.

The teacher here has Stable Diffusion 1.5's topology at a width of 32, under the name "sd15", so
that the names are the 1,016 of the real one. Full size: test_known_answers.py.
"""

import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.diffusion.presets import PRESETS, Preset
from dpiqa_lab.models.official import expected_entries, official_names

pytestmark = pytest.mark.medium

WIDTHS = [32, 64, 96, 96]
PROMPTS, WIDTH = 7, 32
UNET = {
    "sample_size": 64,
    "block_out_channels": WIDTHS,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": WIDTHS,
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.18215,
}


@pytest.fixture(scope="module", autouse=True)
def narrow():
    with pytest.MonkeyPatch.context() as patch:
        architecture = {"unet": UNET, "vae": VAE}
        preset = Preset(
            "nobody/narrow", text_encoder="nobody/clip", decoder_width=32, architecture=architecture
        )
        patch.setitem(PRESETS, "sd15", preset)
        yield


def _authors(model):
    """A state dict in the authors' layout with the model's values and noise for what is unused."""
    own = model.state_dict()
    state = {name: torch.rand(like.shape) for name, like in expected_entries(model).items()}
    return state | {theirs: own[ours] for ours, theirs in official_names(model).items()}


@pytest.fixture(scope="module")
def prompts():
    return torch.randn(PROMPTS, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def state(prompts):
    torch.manual_seed(0)
    backbone = lab.load_backbone("sd15", random_weights=True)
    teacher = lab.Teacher(backbone, prompts[None], decoder_width=32, image_size=64)
    state = _authors(teacher)
    # Values that show what is added to what: gamma starts at almost nothing.
    return state | {"gamma": torch.randn(WIDTH), "QFD.bnc1.num_batches_tracked": torch.tensor(3)}


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "koniq.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def teacher(checkpoint, prompts):
    return lab.load_official_teacher(checkpoint, prompts)


@pytest.fixture(scope="module")
def student_checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("official") / "student.pth"
    torch.save(_authors(lab.Student("efficientnet_b0")), path)
    return path


def _images(n=1, size=64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def _by_hand(state, images, prompts, vae_range="[0,1]"):
    """Score and map from the authors' names by diffusers' own modules and plain torch formulas."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    def part(prefix):
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    def conv(x, name, padding=0):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def excited(x, name):
        hidden = F.relu(x.mean((2, 3)) @ state[f"{name}.fc.0.weight"].T)
        return x * torch.sigmoid(hidden @ state[f"{name}.fc.2.weight"].T)[:, :, None, None]

    vae, unet = AutoencoderKL(**VAE).eval(), UNet2DConditionModel(**UNET).eval()
    vae.load_state_dict(part("vae."))
    unet.load_state_dict(part("unet."))
    seen = images if vae_range == "[0,1]" else images * 2 - 1
    latents = vae.encode(seen).latent_dist.mean * 0.18215
    inner = linear(F.gelu(linear(prompts, "text_adapter.fc.0")), "text_adapter.fc.2")
    text = (prompts + state["gamma"] * inner).expand(len(images), -1, -1)
    x = conv(F.pixel_unshuffle(images, 8), "img_adapter.conv_in", 1)
    residuals = []
    for i in range(4):
        name = f"img_adapter.body.{i}"
        x = F.avg_pool2d(x, 2, ceil_mode=True) if i else x
        x = conv(x, f"{name}.in_conv") if f"{name}.in_conv.weight" in state else x
        for j in range(2):
            hidden = F.relu(conv(x, f"{name}.resnets.{j}.block1", 1))
            x = x + conv(hidden, f"{name}.resnets.{j}.block2")
        residuals.append(x)
    levels = []
    for block in unet.up_blocks:
        block.register_forward_hook(lambda module, inputs, output: levels.insert(0, output))
    unet(latents, 1, text, down_intrablock_additional_residuals=list(residuals))
    fitted = []
    for i, level in enumerate(levels, 1):
        level = F.interpolate(level, (64, 64), mode="bicubic", align_corners=False)
        fitted.append(excited(conv(level, f"QFD.conv{i}", 1), f"QFD.se{i}"))
    x = excited(conv(torch.cat(fitted, 1), "QFD.fuse_conv", 1), "QFD.se_fuse")
    for i in (1, 2, 3):
        x = F.relu(conv(x, f"QFD.conv_score{i}"))
    y = F.relu(linear(F.relu(linear(x.flatten(1), "QFD.fc1")), "QFD.fc2"))
    return linear(y, "QFD.fc3")[:, 0], x


def test_names_are_those_of_the_release():
    with torch.device("meta"):
        student = lab.Student()
    entries = expected_entries(student)
    assert len(entries) == 1206
    assert entries["base_model.features.8.0.weight"].shape == (2560, 640, 1, 1)
    assert entries["base_model.features.1.0.block.1.fc1.weight"].shape == (16, 64, 1, 1)
    assert entries["conv_transpose.weight"].shape == (2560, 8, 3, 3)
    assert entries["fc1.weight"].shape == (512, 8 * 64 * 64)


def test_every_entry_has_its_place(teacher, state):
    assert len(state) == 1016
    names = official_names(teacher)
    assert set(teacher.state_dict()) - set(names) == {"prompt_embeddings"}
    assert len(set(names.values())) == len(names) == 1016 - 7
    assert {n.split(".")[1] for n in set(state) - set(names.values())} == {
        "bnc1",
        "classifier_dist",
    }
    own = teacher.state_dict()
    assert all(torch.equal(own[ours], state[theirs]) for ours, theirs in names.items())


@torch.no_grad()
def test_it_computes_what_their_names_say(teacher, state, prompts):
    images = _images(2)
    for vae_range in ("[0,1]", "[-1,1]"):
        teacher.vae_input = vae_range
        score, feature_map = teacher(images)[:2]
        hand_score, hand_map = _by_hand(state, images, prompts, vae_range)
        assert torch.allclose(feature_map, hand_map, atol=1e-5 * hand_map.max()), vae_range
        assert torch.allclose(score, hand_score, atol=1e-6), vae_range
    teacher.vae_input = "[0,1]"
    other, _ = _by_hand(state, images, prompts, "[-1,1]")
    assert not torch.allclose(teacher(images).score, other, atol=1e-6)


def test_it_is_ready_as_their_code_has_it(teacher):
    assert (teacher.vae_input, teacher.timestep, teacher.image_size) == ("[0,1]", 1, 512)
    assert not teacher.training
    assert "weights of koniq.pth" in repr(teacher.backbone)
    assert "RANDOM" not in repr(teacher.backbone)
    assert not any(p.requires_grad for p in teacher.backbone.vae.parameters())
    assert {p.device.type for p in teacher.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("wrap", ["state_dict", "module", "both", "half", "old format", "string"])
def test_what_else_is_accepted(wrap, teacher, state, prompts, tmp_path):
    path, options = tmp_path / "t.pth", {}
    saved = state
    if wrap in ("module", "both"):
        saved = {f"module.{name}": value for name, value in saved.items()}
    if wrap in ("state_dict", "both"):
        saved = {"state_dict": saved, "epoch": 3}
    if wrap == "half":
        saved = {name: value.half() if value.ndim else value for name, value in saved.items()}
    if wrap == "old format":
        options = {"_use_new_zipfile_serialization": False}
    torch.save(saved, path, **options)
    torch.save(prompts[None], tmp_path / "p.pth")
    again = lab.load_official_teacher(
        str(path) if wrap == "string" else path, tmp_path / "p.pth", lab.load_backbone("sd15", True)
    )
    with torch.no_grad():
        expected, found = teacher(_images()).score, again(_images()).score
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-3) if wrap == "half" else found.equal(expected)


def _drop(state):
    del state["QFD.fc2.bias"]
    return r"missing QFD\.fc2\.bias"


def _add(state):
    state["QFD.fc4.bias"] = torch.zeros(1)
    return r"unexpected QFD\.fc4\.bias"


def _rename(state):
    state["unet.conv_in.w"] = state.pop("unet.conv_in.weight")
    return r"(?s)missing unet\.conv_in\.weight.*unexpected unet\.conv_in\.w\b"


def _reshape(state):
    state["gamma"] = torch.zeros(3)
    return r"gamma is \(3,\), expected \(32,\)"


def _integers(state):
    state["gamma"] = torch.zeros(WIDTH, dtype=torch.int64)
    return r"gamma is torch\.int64, expected torch\.float32"


def _not_finite(state):
    state["vae.decoder.conv_out.weight"] = torch.full((3, 32, 3, 3), float("nan"))
    return r"vae\.decoder\.conv_out\.weight is NaN"


def _no_tensor(state):
    state["gamma"] = [0.0] * WIDTH
    return "'gamma' is list"


def _without_values(state):
    state["gamma"] = torch.zeros(WIDTH, device="meta")
    return "'gamma' is a tensor .* on meta"


def _sparse(state):
    state["gamma"] = torch.zeros(WIDTH).to_sparse()
    return "'gamma' is a tensor .* torch.sparse_coo"


def _half_of_it(state):
    for name in list(state)[500:]:
        del state[name]
    return r"516 of its entries are wrong(?s:.*)and 506 more"


TAMPERS = [
    _drop, _add, _rename, _reshape, _integers, _not_finite, _no_tensor, _without_values, _sparse,
    _half_of_it,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERS, ids=lambda f: f.__name__.strip("_"))
def test_wrong_entries_are_named(tamper, state, prompts, tmp_path):
    state = dict(state)
    message = tamper(state)
    torch.save(state, tmp_path / "t.pth")
    with pytest.raises(lab.LabError, match=message) as caught:
        lab.load_official_teacher(tmp_path / "t.pth", prompts)
    assert "t.pth" in str(caught.value)


class Malice:
    """What opens a file when it is unpickled carelessly."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_in_a_malicious_file_is_run(new_format, state, prompts, checkpoint, tmp_path):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    evil = {**state, "gamma": Malice(marker)}
    torch.save(evil, path, _use_new_zipfile_serialization=new_format)
    loads = [
        lambda: lab.load_official_teacher(path, prompts),
        lambda: lab.load_official_student(path),
        lambda: lab.load_official_teacher(checkpoint, path),
    ]
    for load in loads:
        with pytest.raises(
            lab.LabError, match=r"evil\.pth: not a file of plain tensors \(.*open\)"
        ):
            load()
    assert main(["convert", str(path), str(tmp_path / "out")]) == 2
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    torch.load(path, weights_only=False)["gamma"].close()
    assert marker.exists()  # it would have


def test_damaged_files_are_refused(checkpoint, prompts, tmp_path):
    content = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        first = archive.infolist()[40]
    flipped = bytearray(content)
    flipped[first.header_offset + 200 + first.file_size // 2] ^= 1
    cases = {
        "cut.pth": (content[: len(content) // 2], "not a readable checkpoint|plain tensors"),
        "empty.pth": (b"", "not a readable checkpoint"),
        "page.pth": (b"<html>Quota exceeded</html>", "not a readable checkpoint|plain tensors"),
        "flipped.pth": (bytes(flipped), "damaged or altered at"),
    }
    for name, (written, message) in cases.items():
        (tmp_path / name).write_bytes(written)
        with pytest.raises(lab.LabError, match=f"{name}.*({message})"):
            lab.load_official_teacher(tmp_path / name, prompts)
    with pytest.raises(lab.LabError, match="no such file"):
        lab.load_official_teacher(tmp_path / "none.pth", prompts)


def test_other_checkpoints_are_told_apart(checkpoint, student_checkpoint, prompts, tmp_path):
    with pytest.raises(lab.LabError, match="use load_official_student"):
        lab.load_official_teacher(student_checkpoint, prompts)
    with pytest.raises(lab.LabError, match="use load_official_teacher"):
        lab.load_official_student(checkpoint)
    with pytest.raises(lab.LabError, match="wrong"):
        lab.load_official_student(student_checkpoint)  # which holds a B0
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(lab.LabError, match=r"plain tensors \(torch\.nn"):
        lab.load_official_student(tmp_path / "module.pth")
    with pytest.raises(lab.LabError, match=r"expected a state dict, found list"):
        lab.load_official_student(tmp_path / "list.pth")


def test_prompt_embeddings_that_do_not_fit(checkpoint, prompts, tmp_path):
    with pytest.raises(lab.LabError, match=r"\(7, 31\), expected \(K, 32\)"):
        lab.load_official_teacher(checkpoint, prompts[:, 1:])
    with pytest.raises(lab.LabError, match=r"\(2, 7, 32\), expected \(K, 32\)"):
        lab.load_official_teacher(checkpoint, torch.stack([prompts, prompts]))
    torch.save({"embeddings": prompts}, tmp_path / "p.pth")
    with pytest.raises(lab.LabError, match=r"p\.pth: expected one tensor"):
        lab.load_official_teacher(checkpoint, tmp_path / "p.pth")
    # The tests have no network: CLIP cannot be fetched, and made-up embeddings are no choice.
    with pytest.raises(lab.LabError, match=r"text encoder(?s:.*)give prompt_embeddings"):
        lab.load_official_teacher(checkpoint)
    with pytest.raises(lab.LabError, match="text encoder"):
        lab.load_official_teacher(checkpoint, backbone=lab.load_backbone("sd15", True))


def test_another_architecture_is_refused(checkpoint, prompts):
    with pytest.raises(lab.LabError, match=r"entries are wrong"):
        lab.load_official_teacher(checkpoint, torch.randn(3, 1024), "sd21")
    with pytest.raises(lab.LabError, match="no backbone"):
        lab.load_official_teacher(checkpoint, prompts, "nothing")


def test_a_given_backbone_is_left_as_it_was(checkpoint, prompts):
    backbone = lab.load_backbone("sd15", random_weights=True, seed=5)
    before = backbone.unet.conv_in.weight.clone()
    lab.load_official_teacher(checkpoint, prompts, backbone)
    assert torch.equal(backbone.unet.conv_in.weight, before)


def test_a_converted_teacher_scores_the_same(teacher, checkpoint, prompts, tmp_path, capsys):
    torch.save(prompts, tmp_path / "p.pth")
    out = tmp_path / "models" / "koniq"
    assert main(["convert", str(checkpoint), str(out), "--prompts", str(tmp_path / "p.pth")]) == 0
    assert f"teacher in {out}" in capsys.readouterr().out
    assert not list(out.rglob("*.pth"))
    model = lab.load_model(out)
    model.image_size = teacher.image_size = 64
    photographs = [*_images(3)]
    assert np.array_equal(model.score(photographs), teacher.score(photographs))
    assert model.vae_input == "[0,1]"
    assert torch.equal(model.backbone.encode(_images()), teacher.backbone.encode(_images()))
    teacher.image_size = 512
    assert main(["convert", str(checkpoint), str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(lab.LabError, match="no last weights"):
        lab.load_model(out, "last")


def test_a_converted_student_scores_the_same(student_checkpoint, tmp_path):
    from dpiqa_lab.training.conversion import convert

    student = lab.load_official_student(student_checkpoint, "efficientnet_b0")
    own, saved = student.state_dict(), torch.load(student_checkpoint)
    assert all(torch.equal(own[o], saved[t]) for o, t in official_names(student).items())
    (tmp_path / "out").mkdir()  # empty: may be used
    run = convert(student_checkpoint, tmp_path / "out", trunk="efficientnet_b0")
    assert run.summary()["status"] == "converted"
    photographs = [torch.rand(3, 100, 80) for _ in range(2)]
    scores = lab.load_model(tmp_path / "out").score(photographs)
    assert np.array_equal(scores, student.score(photographs))


def test_a_damaged_conversion_is_refused(student_checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    from dpiqa_lab.training.conversion import convert

    run = convert(student_checkpoint, tmp_path / "out", trunk="efficientnet_b0")
    path = run.checkpoints / "best.safetensors"
    state = load_file(path)
    del state["regressor.fc3.bias"]
    save_file(state, path)
    with pytest.raises(lab.LabError, match=r"missing regressor\.fc3\.bias"):
        lab.load_model(tmp_path / "out")


def test_a_refused_checkpoint_leaves_no_folder(checkpoint, prompts, tmp_path):
    from dpiqa_lab.training.conversion import convert

    with pytest.raises(lab.LabError):
        convert(checkpoint, tmp_path / "out", prompts[:, 1:])
    assert not list(tmp_path.iterdir())
