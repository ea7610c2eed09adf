"""The one way through a run: known by its identity, then reused, continued, made, or refused."""

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
    **more,
) -> Run:
    """The run that ``config`` names, with ``work`` done where it was not done before.

    Args:
        config: resolved.
        inputs: photographs and models that go in.
        work: computes, writes its tables to the run, and gives what ``summary.json`` is to hold.
        rename: see ``open_run``; ``None`` is where the run's name was made up.
        more: parameters beside those of ``config``.

    Raises:
        LabError: see ``open_run``; or what ``work`` raises.
    """
    if rename is None:
        rename = config.run_name == config.made_up_name()
    identity = Identity({**config.identity(), **more}, inputs, type(config).__name__)
    return run_once(config.run_name, identity, work, config.compute(), inputs.notes, rename)


def run_once(
    name: str,
    identity: Identity,
    work: Callable[[Run], dict],
    compute: Compute,
    notes: Sequence[str] = (),
    rename: bool = False,
) -> Run:
    """``experiment`` of a name and an identity that are not those of a configuration alone."""
    with open_run(name, identity, compute, rename) as run:
        if not run.reused():
            print(f"run {run.path}\ncomputing on {compute}")
            for note in notes:
                print(note)
            run.complete(**work(run))
    return run
