"""The notebooks on a device other than the CPU, on generated photographs in KonIQ-10k's layout.

On a GPU at full size with random weights: ``make test-gpu`` runs these alone and fails where there
is none; minutes, 40 GB of its memory. And on a stand-in (``tests/standin``), tiny, where there is
none: what leaves the device fails there too.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from dpiqa_lab.core.runs import find_run
from tests.conftest import REPOSITORY
from tests.support.notebooks import papermill

pytestmark = pytest.mark.medium

TRAINED = {"batch_size": 4, "validate_every": 2}


@dataclass(frozen=True)
class Place:
    """A device, and the size of models and photographs that suits it."""

    device: str
    backbone: str
    size: int
    trunk: str

    @property
    def read(self):
        return {"image_size": self.size, "device": self.device}

    @property
    def model(self):
        return {"backbone": self.backbone, "random_weights": True}


GPU = Place("cuda", "sd15", 512, "efficientnet_b7")
STANDIN = Place("standin", "tiny", 64, "efficientnet_tiny")
STANDIN_CODE = str(REPOSITORY / "tests/standin")


@pytest.fixture(
    params=[
        pytest.param(GPU, marks=pytest.mark.gpu),
        pytest.param(STANDIN, marks=pytest.mark.slow),
    ],
    ids=lambda place: place.device,
)
def place(request, monkeypatch):
    if request.param is STANDIN:
        monkeypatch.setenv("PYTHONPATH", STANDIN_CODE)
    return request.param


@pytest.fixture(scope="module")
def koniq(tmp_path_factory):
    """48 photographs of 1024x768, and scores that fall with their blur."""
    root = tmp_path_factory.mktemp("koniq")
    (root / "1024x768").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        blur = rng.random()
        coarse = Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
        image = coarse.resize((1024, 768), Image.Resampling.BICUBIC)
        image.filter(ImageFilter.GaussianBlur(9 * blur)).save(root / f"1024x768/{i}.jpg")
        part = ("training", "training", "validation", "test")[i % 4]
        rows.append({"image_name": f"{i}.jpg", "MOS": 90 - 80 * blur, "set": part})
    table = pd.DataFrame(rows).assign(c1=0.2, c2=0.2, c3=0.2, c4=0.2, c5=0.2, c_total=100, SD=0.5)
    table.to_csv(root / "koniq10k_distributions_sets.csv", index=False)
    return root


def _ran(folder, notebook, **options):
    result = papermill(folder, notebook, **options)
    assert result.returncode == 0, result.stderr[-3000:]
    run = find_run(options["run_name"])
    assert run.summary()["status"] == "completed"
    return run


def test_03_04_and_05_train_distil_and_evaluate(koniq, tmp_path, place):
    data = {"dataset": "koniq", "data_root": koniq, **place.read}
    teacher = _ran(
        tmp_path, "03_train", **data, **place.model, **TRAINED, max_steps=4, run_name="gpu_03"
    )
    assert teacher.config["device"] == place.device
    assert np.isfinite(teacher.predictions()["score"]).all()
    students = _ran(
        tmp_path, "04_distill", **data, **TRAINED, teacher="gpu_03", variants="labels,both",
        trunk=place.trunk, max_steps=2, run_name="gpu_04",
    )  # fmt: skip
    variants = pd.read_csv(students.path / "ablation.csv")["variant"]
    assert list(variants) == ["teacher", "labels", "both"]
    judged = _ran(
        tmp_path, "05_evaluate", models="ridge_on_statistics,gpu_03", datasets="koniq",
        data_roots=koniq, robustness=4, resamples=100, run_name="gpu_05", **place.read,
    )  # fmt: skip
    assert set(pd.read_csv(judged.path / "agreement.csv")["model"]) == {
        "ridge_on_statistics", "gpu_03",
    }  # fmt: skip


def test_01_02_and_08_look_inside_and_compare(koniq, tmp_path, place):
    data = {"dataset": "koniq", "data_root": koniq, **place.read, **place.model}
    looks = {"timesteps": "1,100", "splits": 3}
    _ran(tmp_path, "01_feature_probing", **data, **looks, shown=2, run_name="gpu_01")
    _ran(
        tmp_path,
        "02_timestep_ablation",
        **data,
        **looks,
        random_init_control=False,
        run_name="gpu_02",
    )
    _ran(
        tmp_path, "08_components", **data, **TRAINED, variants="whole,no prompts", seeds=1,
        train_fraction=1, max_steps=2, run_name="gpu_08",
    )  # fmt: skip


def test_06_and_07_open_and_measure(koniq, tmp_path, place):
    data = {"dataset": "koniq", "data_root": koniq, **place.read, **place.model}
    result = papermill(tmp_path, "06_explore", **data, timesteps="1,100", name="gpu_06")
    assert result.returncode == 0, result.stderr[-3000:]
    few = {"photographs": 1, "batch_sizes": "1", "timesteps": 2, "rounds": 1}
    run = _ran(tmp_path, "07_benchmark", **place.read, **place.model, **few, run_name="gpu_07")
    assert (pd.read_csv(run.path / "passes.csv")["rate"] > 0).all()


def test_00_trains_a_small_prior(koniq, tmp_path, place):
    options = {"photographs": f"{koniq}/1024x768", "device": place.device, "run_name": "gpu_00"}
    options |= {"vae_steps": 20, "vae_linear": 5, "decoder_steps": 10, "adapter_steps": 10}
    options |= {"unet_steps": 10, "validate_every": 10, "views": 1}
    if place is GPU:
        result = papermill(tmp_path, "00_pretrain_prior", **options)
    else:  # the rest of the notebook, with the whole demo set, takes too long there
        config = f"lab.experiments.PriorConfig.from_parameters({options})"
        train = f"import dpiqa_lab as lab; lab.experiments.train_prior({config})"
        result = subprocess.run([sys.executable, "-c", train], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert find_run("gpu_00").config["device"] == place.device


MIXED = """
import torch
from dpiqa_lab.core.device import choose_compute
here, there = torch.ones(3), torch.ones(3, device=choose_compute("standin").device)
assert (there + there).tolist() == [2, 2, 2] and (there * torch.tensor(2.0)).device == there.device
net = torch.nn.Linear(3, 1).to(there.device)
net(there).backward()
grad = net.weight.grad
assert grad.device == there.device and grad.cpu().numpy().tolist() == [[1, 1, 1]]
for leave in (lambda: there + here, lambda: net(here), lambda: here[there.long()], there.numpy):
    try:
        leave()
    except RuntimeError:
        continue
    raise SystemExit("left the device unseen")
"""


def test_the_stand_in_refuses_what_a_gpu_would():
    env = {**os.environ, "PYTHONPATH": STANDIN_CODE}
    subprocess.run([sys.executable, "-c", MIXED], env=env, check=True)
