"""What the fit loop does with a schedule's limits, on a network of one weight."""

import pytest

from dpiqa_lab.core.identity import Identity
from dpiqa_lab.core.runs import open_run
from dpiqa_lab.training.checkpoints import load_weights
from dpiqa_lab.training.loop import Schedule, fit
from tests.support.networks import CPU, Small


def _fit(task, root, **options):
    with open_run("limited", Identity({}), CPU, root=root) as run:
        return run, fit(run, task, Schedule(12, 1, 0.1, validate_every=2, **options), CPU)


@pytest.mark.parametrize(("limit", "expected"), [(None, [2, 1.8]), (0.5, [0.5, 0.5])])
def test_gradients_are_no_longer_than_clip_norm(tmp_path, limit, expected):
    task, lengths = Small(), []
    task.stepped = lambda: lengths.append(task.network.weight.grad.norm().item())
    _fit(task, tmp_path, clip_norm=limit, max_steps=2)
    # (w - 2)^2 at w = 1, and after a step of Adam's at 1.1.
    assert lengths == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("patience", "steps"), [(1, 6), (2, 8), (None, 12)])
def test_a_training_ends_after_so_many_validations_without_a_better_one(tmp_path, patience, steps):
    task, found = Small(), iter([0.1, 0.3, 0.3, 0.2, 0.1, 0.2])
    task.validate = lambda model: {"near": next(found)}
    _, progress = _fit(task, tmp_path, patience=patience)
    assert (progress.best_step, progress.step) == (4, steps)


def test_a_fitted_start_is_kept_where_training_makes_it_worse(tmp_path):
    task, found = Small(), iter([0.3, 0.2, 0.1])
    task.fitted_start = True
    task.validate = lambda model: {"near": next(found)}
    run, progress = _fit(task, tmp_path, max_steps=4)
    assert (progress.best, progress.best_step) == (0.3, 0)
    assert run.history()["step"].tolist() == [0, 2, 4]
    assert load_weights(run.checkpoints / "best.safetensors")["weight"].tolist() == [1.0]
