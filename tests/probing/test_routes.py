"""What the cache stores under a key has the same bytes whatever surrounds its computation."""

import contextlib
import re
from pathlib import Path

import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.core import cache
from dpiqa_lab.core.device import choose_compute, exact
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.datasets.image_set import ImageSet
from dpiqa_lab.datasets.image_statistics import cached_statistics
from dpiqa_lab.datasets.near_duplicates import scenes_of
from dpiqa_lab.diffusion.attention import fixed_prompts
from dpiqa_lab.diffusion.attention_maps import map_taps
from dpiqa_lab.diffusion.latents import dataset_latents
from dpiqa_lab.evaluation.dataset_scores import scores_of
from dpiqa_lab.evaluation.peers import features as re_iqa_features
from dpiqa_lab.evaluation.resolve_scorer import resolve_scorer
from dpiqa_lab.explorer.probes import FeatureKey, Probes
from dpiqa_lab.models.encoders import Encoder, encoder_features
from dpiqa_lab.models.re_iqa import QualityEncoder, ReIqa
from dpiqa_lab.nn.compiling import compiled
from dpiqa_lab.nn.int8 import int8_kernels
from dpiqa_lab.probing.features import FeatureStore, extract_features
from dpiqa_lab.training.statistics_targets import statistics_targets
from dpiqa_lab.training.teacher_outputs import teacher_outputs
from tests.support.configs import QUICK

pytestmark = pytest.mark.medium

PRECISIONS = ("float32", "bfloat16", *(["int8"] if int8_kernels() else []))
PROMPTS = ["noise of bad quality", "blur", "of perfect quality"]
TIMES = (1, 300)


def _compute(precision, compile=False):
    return choose_compute("cpu", precision, compile)


@contextlib.contextmanager
def _in_use(backbone, precision):
    """As amid an evaluation: the prompts' projections are in hand, in another precision."""
    with torch.no_grad(), _compute(precision).autocast(), fixed_prompts(backbone.unet):
        backbone.denoise(torch.randn(1, 4, 8, 8), 1, PROMPTS)
        yield


AROUND = {
    "nothing": lambda backbone: contextlib.nullcontext(),
    "compiled": compiled,
    "autocast": lambda backbone: torch.autocast("cpu", torch.bfloat16),
    **{f"in use, {p}": lambda backbone, p=p: _in_use(backbone, p) for p in PRECISIONS},
}


@pytest.fixture(autouse=True)
def _compiler(monkeypatch):
    """A compiler whose blocks would be off by far."""

    def off(value):
        return tuple(map(off, value)) if isinstance(value, tuple) else value + 1

    monkeypatch.setattr(
        torch, "compile", lambda f, dynamic: lambda *args, **kwargs: off(f(*args, **kwargs))
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A function that moves the lab's home, and with it the cache, to a new folder."""

    def move(name):
        monkeypatch.setenv("DPIQA_HOME", str(tmp_path / name))
        return tmp_path / name / "cache"

    return move


@pytest.fixture
def photos(small_folder):
    dataset = lab.load_dataset("folder", root=small_folder, mos_range=(0, 100), image_size=64)
    return dataset.sample(4)


def _stored(folder: Path) -> dict[str, dict[str, bytes]]:
    """Of every entry of a cache, by kind and key: tensors by item and name, as bytes."""
    found = {}
    for key in folder.glob("*/*/key.json"):
        rows = found.setdefault(str(key.parent.relative_to(folder)), {})
        for path in key.parent.glob("*.safetensors"):
            ids, tensors = cache._read_file(path)
            for name, values in tensors.items():
                for item, value in zip(ids, values, strict=True):
                    rows[f"{item} {name}"] = value.numpy().tobytes()
    return found


def _kinds(stored) -> set[str]:
    return {entry.split("/")[0] for entry in stored}


@pytest.mark.parametrize("noise_seed", [None, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_and_what_they_are_made_of_are_the_same_on_every_route(
    precision, noise_seed, photos, home
):
    backbone = lab.load_backbone("tiny")
    taps = [map_taps(backbone.unet)[0], "mid_block", "up_blocks.1"]

    def extracted(name, times, taps, compile=False):
        folder = home(name)
        backbone._embedded.clear()  # so that prompts are embedded where they are asked for
        extract_features(
            backbone, photos, times, taps, PROMPTS, noise_seed,
            compute=_compute(precision, compile and precision != "int8"), batch_size=3,
        )  # fmt: skip
        return _stored(folder)

    alone = {}
    for time in TIMES:  # one tap a call, each with passes of its own
        for tap in taps:
            alone |= extracted(f"{time} {tap}", [time], [tap])
    assert _kinds(alone) == {"latents", "prompts", "features"}
    for name, around in AROUND.items():
        with around(backbone):
            sweep = extracted(name, TIMES, taps, compile=name == "compiled")
        assert sweep.keys() == alone.keys(), name
        for entry in alone:
            assert sweep[entry] == alone[entry], f"{entry} within {name}"


def test_latents_are_the_same_in_every_precision(photos, home):
    backbone, found = lab.load_backbone("tiny"), []
    for name, around in AROUND.items():
        for precision in PRECISIONS:
            folder = home(f"{name} {precision}")
            with around(backbone):
                dataset_latents(backbone, photos, _compute(precision))
            stored = _stored(folder)
            found.append({k: v for k, v in stored.items() if k.startswith("latents")})
    assert len(found[0]) == 1
    assert all(stored == found[0] for stored in found)


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory):
    from tests.conftest import photographs

    root = tmp_path_factory.mktemp("routes")
    photographs(root / "photos", 30).to_csv(root / "photos" / "scores.csv", index=False)
    options = {"data_root": str(root / "photos"), "precision": "float32", "max_steps": 1}
    options |= {"run_name": "routes", "validate_every": 1}
    return lab.train_teacher(lab.TrainConfig.from_parameters({**QUICK, **options})).path


def test_every_kind_of_rows_is_the_same_whatever_surrounds_it(teacher_run, small_folder, home):
    dataset = lab.load_dataset("folder", root=small_folder, mos_range=(0, 100), image_size=64)
    dataset, few = dataset.sample(16), dataset.sample(4)
    torch.manual_seed(0)
    encoder, compute = ReIqa([QualityEncoder("resnet18")]), _compute("float32")
    run, teacher = find_run(teacher_run), lab.load_model(teacher_run)
    judge = resolve_scorer(teacher, device="cpu")

    def store(backbone):
        extract_features(backbone, dataset, [1], ["mid_block"], PROMPTS, compute=compute)
        features = FeatureStore(backbone, dataset, PROMPTS, compute=compute)
        Probes(features, dataset.table).predictions(FeatureKey(1, ("mid_block",), ("mean",)))
        teacher_outputs(run, few.table, compute)
        cached_statistics(few)
        statistics_targets(ImageSet(few.table, 64))
        re_iqa_features(encoder, few, "cpu")
        scores_of(judge, few, few.table)
        scenes_of(few.table)
        encoder_features(Encoder("efficientnet_tiny", "none", 64), few, "cpu")

    expected = None
    for name, around in AROUND.items():
        folder = home(name)
        backbone = lab.load_backbone("tiny")
        with around(backbone), around(teacher.backbone):
            store(backbone)
        found = _stored(folder)
        expected = expected or found
        assert found == expected, name
    package = Path(lab.__file__).parent
    kinds = {
        kind
        for path in package.rglob("*.py")
        for kind in re.findall(r'RowCache\(\s*"(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert _kinds(expected) == kinds  # of all that the package stores


@pytest.mark.parametrize("text_adapter", [False, True])
def test_scores_are_the_same_within_another_evaluation(text_adapter):
    prompts = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))
    teacher = lab.Teacher(
        lab.load_backbone("tiny"), prompts, decoder_width=16, image_size=64,
        text_adapter=text_adapter,
    )  # fmt: skip
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))]
    alone = {p: teacher.score(images, device="cpu", precision=p) for p in PRECISIONS}
    assert len({scores.tobytes() for scores in alone.values()}) == len(PRECISIONS)
    for outer in PRECISIONS:
        with teacher.evaluation(_compute(outer)):
            teacher(images[0][None])
            for inner in PRECISIONS:
                within = teacher.score(images, device="cpu", precision=inner)
                assert (within == alone[inner]).all(), f"{inner} within {outer}"


def test_the_innermost_block_says_how_it_is_computed():
    layer, x = torch.nn.Conv2d(64, 64, 3), torch.randn(1, 64, 16, 16)
    with torch.no_grad():
        found = {p: _inside(layer, x, p) for p in PRECISIONS}
        assert not any(torch.equal(found["float32"], found[p]) for p in PRECISIONS[1:])
        for outer in PRECISIONS:
            with _compute(outer).autocast():
                for inner in PRECISIONS:
                    assert torch.equal(_inside(layer, x, inner), found[inner])
                with exact():
                    assert torch.equal(layer(x), found["float32"])
                assert torch.equal(layer(x), found[outer])  # and then as before


def _inside(layer, x, precision):
    with _compute(precision).autocast():
        return layer(x)
