import numpy as np
import pytest

import dpiqa_lab as lab
from dpiqa_lab.evaluation import peers
from dpiqa_lab.evaluation.baselines import BASELINES, ridge_on_statistics, svr_on_naturalness
from dpiqa_lab.evaluation.peers import pmt_iqa, re_iqa
from dpiqa_lab.metrics import srcc
from dpiqa_lab.models.re_iqa import QualityEncoder, ReIqa
from dpiqa_lab.ridge import ALPHAS
from dpiqa_lab.training.peer_config import PmtIqaConfig, QualityEncoderConfig
from tests.conftest import BIQ, needs_biq
from tests.support.images import NoiseImages


def test_ridge_on_statistics_of_photographs():
    train, val, test = NoiseImages(60, 0), NoiseImages(20, 1), NoiseImages(20, 2)
    result = ridge_on_statistics(train, val, test, workers=3)
    mos = 5 - 20 * test.strength
    assert result["predictions"].shape == (20,)
    assert np.corrcoef(result["predictions"], mos)[0, 1] > 0.95
    assert result["alpha"] in ALPHAS


@pytest.mark.medium
def test_the_registry_s_baselines_take_parts_and_give_a_score_each(tmp_path):
    small = {"trunk": "resnet_tiny", "image_size": 64, "crop_size": 32, "device": "cpu"}
    budgets = {
        "niqe": {"patch": 24},
        "pmt_iqa": {"config": PmtIqaConfig(**small, epochs=2)},
        "re_iqa": {"config": QualityEncoderConfig(**small, steps=2, scenes=4)},
        "ridge_on_efficientnet_lite0": {"weights": "none", "image_size": 64},
    }
    train, val, test = NoiseImages(24, 0), NoiseImages(12, 1), NoiseImages(8, 2)
    for name, baseline in BASELINES.items():
        found = baseline(train, val, test, **budgets.get(name, {}))["predictions"]
        assert found.shape == (8,), name
        assert np.isfinite(found).all(), name
        assert found.std() > 0, name


def test_learned_peers_are_trained_once_and_again_on_other_scores(capsys):
    config = PmtIqaConfig(
        trunk="resnet_tiny", image_size=64, crop_size=32, device="cpu", epochs=1, validate_every=9
    )
    train, val, test = ([NoiseImages(9, seed)[i] for i in range(9)] for seed in (5, 6, 7))
    first = pmt_iqa(train, val, test, config)
    again = pmt_iqa(train, val, test[:4], config)
    assert again["run"] == first["run"]
    assert "reused" in capsys.readouterr().out
    np.testing.assert_allclose(again["predictions"], first["predictions"][:4], atol=1e-5)
    train[0]["mos"] += 1
    assert pmt_iqa(train, val, test, config)["run"] != first["run"]


def test_re_iqa_reads_released_encoders_and_caches_features(tmp_path, monkeypatch):
    model = ReIqa([QualityEncoder("resnet_tiny")])
    monkeypatch.setattr(peers, "load_re_iqa", lambda quality, content: model)
    train, val, test = NoiseImages(24, 0), NoiseImages(12, 1), NoiseImages(8, 2)
    first = re_iqa(train, val, test, quality="quality.pth")
    monkeypatch.setattr(model, "forward", None)  # every row is known
    second = re_iqa(train, val, test, quality="quality.pth")
    assert np.array_equal(first["predictions"], second["predictions"])
    assert first["alpha"] in ALPHAS


@pytest.mark.slow
@needs_biq
def test_brisque_on_biq2021_is_what_was_published():
    parts = [
        lab.load_dataset("biq2021", BIQ, part, image_size=512, on_bad_image="skip")
        for part in ("train", "val", "test")
    ]
    mos = parts[2].table["mos"]
    found = svr_on_naturalness(*parts)["predictions"]
    # Its authors: .604; the subset that is here has fewer photographs to train on.
    assert 0.58 < srcc(found, mos) < 0.68
