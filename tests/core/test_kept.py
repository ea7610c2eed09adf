"""What is kept of a tensor, and until when."""

import gc

import torch

from dpiqa_lab.core.kept import _kept, kept


def test_made_once_until_the_numbers_change():
    made = []
    x = torch.ones(3)

    def double():
        return kept(x, "double", lambda: made.append(1) or x * 2)

    assert double() is double()
    assert kept(x, "triple", lambda: x * 3).tolist() == [3, 3, 3]
    x.add_(1)
    assert double().tolist() == [4, 4, 4]
    x.data = torch.full((3,), 5.0)
    assert double().tolist() == [10, 10, 10]
    x.data = x.data.double()
    assert double().dtype == torch.float64
    assert len(made) == 4


def test_goes_with_the_tensor():
    gc.collect()
    before, x = len(_kept), torch.ones(3)
    kept(x, "double", lambda: 2)
    assert len(_kept) == before + 1
    del x
    assert len(_kept) == before


def test_without_versions_nothing_is_kept():
    with torch.inference_mode():
        x = torch.ones(1)
        assert kept(x, "a", x.item) == 1
        x.add_(1)
        assert kept(x, "a", x.item) == 2
