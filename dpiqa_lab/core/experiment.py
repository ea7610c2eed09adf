"""Runs an experiment once: a run of the same identity is reused or continued."""

from collections.abc import Callable, Sequence

from .config import Configuration
from .device import Compute
from .identity import Identity, Inputs
from .runs import Run, open_run


def experiment(
    config: Configuration,
    inputs: Inputs,
    work: Callable[[Run], dict],
    rename: bool | None = None,
    **more: object,
) -> Run:
    """The run named by ``config``; ``work`` is executed unless it is completed.

    Args:
        config: resolved.
        inputs: images and models used.
        work: computes, writes its tables to the run, and returns the values of ``summary.json``.
        rename: see ``open_run``; ``None``: if the run's name was generated.
        more: parameters in addition to those of ``config``.

    Raises:
        LabError: see ``open_run``; or raised by ``work``.
    """
    if rename is None:
        rename = config.run_name == config.made_up_name()
    identity = Identity({**config.identity(), **more}, inputs, type(config).__name__)
    assert config.run_name is not None
    return run_once(config.run_name, identity, work, config.compute(), inputs.notes, rename)


def run_once(
    name: str,
    identity: Identity,
    work: Callable[[Run], dict],
    compute: Compute,
    notes: Sequence[str] = (),
    rename: bool = False,
) -> Run:
    """``experiment`` of a given name and identity."""
    with open_run(name, identity, compute, rename) as run:
        if not run.reused():
            print(f"run {run.path}\ncomputing on {compute}")
            for note in notes:
                print(note)
            run.complete(**work(run))
    return run
