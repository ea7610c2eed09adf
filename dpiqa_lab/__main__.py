"""The command line: ``python -m dpiqa_lab <command>``."""

import argparse
import ast
import sys
from pathlib import Path

from .core.errors import LabError
from .core.paths import home, runs_dir

# What fits into a few minutes of two cores; notebook 03's other defaults are the demo's.
DEMO = {
    "run_name": "demo",
    "max_steps": 100,
    "lr_milestones": "2",
    "validate_every": 25,
    "warmup_steps": 10,
}


def demo(arguments: argparse.Namespace) -> None:
    """Train the tiny teacher on the demo set through notebook 03, and say where things are."""
    from .core.runs import Run
    from .workbench.runner import run_notebook

    run = Run(runs_dir() / "demo", {}, "")
    output = run.path.with_name("demo.ipynb")
    run_notebook(home() / "notebooks" / "03_train.ipynb", output, **DEMO)
    output.replace(run.path / "03_train.ipynb")
    test = run.summary()["metrics"]["test"]
    low, high = test["srcc_ci"]
    print(
        f"\ntest SRCC {test['srcc']:.3f} (95% interval over contents {low:.3f} to {high:.3f}), "
        f"PLCC {test['plcc']:.3f}, {test['n']} photographs of unseen contents"
    )
    print(f"run: {run.path}\nfigures:")
    for path in sorted(run.figures.iterdir()):
        print(f"  {path}")
    print(f"notebook: {run.path / '03_train.ipynb'}")


def runs(arguments: argparse.Namespace) -> None:
    """List the runs with what they were trained on and their test metrics."""
    from .core.runs import list_runs

    table = list_runs()
    print(table.to_string(index=False) if len(table) else f"no runs in {runs_dir()} yet")


def score(arguments: argparse.Namespace) -> None:
    """Score photographs with the model of a run, to the terminal."""
    from .training.load_model import load_model

    model = load_model(arguments.model)
    for path, value in zip(arguments.photographs, model.score(arguments.photographs), strict=True):
        print(f"{value:.4f}\t{path}")


def protocol(arguments: argparse.Namespace) -> None:
    """Train and test on numbered splits; print medians beside published results."""
    from .evaluation.protocol import beside_published, over_splits, run_protocol
    from .training.config import TrainConfig

    given = {name: _literal(value) for name, value in arguments.parameter}
    config = TrainConfig.from_parameters(
        {"dataset": arguments.dataset, "data_root": arguments.root, **given}
    )
    table = run_protocol(config, arguments.splits)
    for part in (table, over_splits(table), beside_published(table, config)):
        print(f"\n{part.to_string(float_format='{:.3f}'.format)}")


def sweep(arguments: argparse.Namespace) -> None:
    """Run a notebook over a grid of parameters; what is finished is not run again."""
    from .workbench.sweep import run_sweep

    given = {name: _literal(value) for name, value in arguments.parameter}
    grid = {name: [_literal(v) for v in values.split(",")] for name, values in arguments.grid}
    table = run_sweep(arguments.notebook, grid, given, arguments.name)
    print(f"\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
    failed = int((table["status"] != "completed").sum())
    if failed:
        raise LabError(f"{failed} of {len(table)} runs failed; the same command tries these again.")


def _literal(text: str):
    """A number, True, False or None as itself; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(argv: list[str] | None = None) -> int:
    """Run a command; bad input ends with its message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dpiqa_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    subs = {}
    for command in (demo, runs, score, protocol, sweep):
        subs[command] = commands.add_parser(command.__name__, help=command.__doc__)
        subs[command].set_defaults(call=command)
    subs[score].add_argument("photographs", nargs="+", type=Path)
    subs[score].add_argument("--model", default="demo", help="name or folder of a run")
    subs[protocol].add_argument("dataset", help="koniq, clive, …")
    subs[protocol].add_argument("--root", help="the dataset's folder (default: data/<dataset>)")
    subs[protocol].add_argument("--splits", type=int, default=10, help="how many (default: 10)")
    subs[protocol].add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="any parameter of notebook 03, as -p backbone sd15",
    )  # fmt: skip
    subs[sweep].add_argument("notebook", type=Path)
    subs[sweep].add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="a parameter that all runs share, as -p dataset koniq",
    )  # fmt: skip
    subs[sweep].add_argument(
        "-g", "--grid", nargs=2, action="append", required=True, metavar=("NAME", "V1,V2,…"),
        help="a parameter and its values, as -g timestep 1,10,100",
    )  # fmt: skip
    subs[sweep].add_argument("--name", help="of the sweep's folder (default: made up)")
    arguments = parser.parse_args(argv)
    try:
        arguments.call(arguments)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
