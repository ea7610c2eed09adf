from types import SimpleNamespace

import pytest
import torch

from dpiqa_lab.core.device import choose_compute


@pytest.mark.parametrize(("tiles", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_computes_in_bfloat16_only_with_matrix_tiles(monkeypatch, tiles, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    compute = choose_compute("cpu")
    assert compute.precision == precision
    assert ("not fast" in compute.why) == (not tiles)
    with choose_compute("cpu", "bfloat16").autocast():  # as asked
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_float32_is_float32_on_a_gpu(monkeypatch):
    flags = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", flags)
    choose_compute("cpu")
    assert flags.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert str(choose_compute("cuda", "float32")) == "cuda in float32 (as asked)"
    assert not flags.allow_tf32
