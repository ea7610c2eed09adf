"""What is kept of a tensor, and until when."""

import gc

import torch

from dpiqa_lab.nn.tensor_memo import _memo, memoize_tensors, memoized


def test_made_once_until_the_numbers_change():
    made = []
    x = torch.ones(3)

    def double():
        return memoized(x, "double", lambda: made.append(1) or x * 2)

    with memoize_tensors():
        with memoize_tensors():
            assert double() is double()
        assert memoized(x, "triple", lambda: x * 3).tolist() == [3, 3, 3]
        x.add_(1)
        assert double().tolist() == [4, 4, 4]
        assert double() is double()
    assert len(made) == 2


def test_nothing_outlasts_the_block():
    # A step that torch does not count in the weights' version.
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=1, fused=True)
    for expected in (2, 0):
        with memoize_tensors(), torch.no_grad():
            assert memoized(weight, "double", lambda: weight * 2).tolist() == [expected] * 3
        weight.grad = torch.ones(3)
        optimizer.step()
    assert _memo.get() is None
    assert memoized(weight, "double", lambda: 7) == 7


def test_goes_with_the_tensor():
    with memoize_tensors():
        x = torch.ones(3)
        memoized(x, "double", lambda: 2)
        assert len(_memo.get()) == 1
        del x
        gc.collect()
        assert len(_memo.get()) == 0


def test_without_versions_nothing_is_memo():
    with torch.inference_mode(), memoize_tensors():
        x = torch.ones(1)
        assert memoized(x, "a", x.item) == 1
        x.add_(1)
        assert memoized(x, "a", x.item) == 2
