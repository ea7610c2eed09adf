"""The command line: ``python -m dpiqa_lab <command>``."""

import argparse
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


def check(arguments: argparse.Namespace) -> int:
    """Say what is wrong with a dataset's folder, and what a training on it needs."""
    from .datasets.doctor import examine
    from .training.config import TrainConfig
    from .workbench.needs import durations, sizes

    name, root, options = arguments.dataset, arguments.root, dict(arguments.option)
    found = examine(name, root, split=arguments.split, **options)
    config = {key: value for key, value in options.items() if key != "keep_training_images"}
    config |= {"dataset": name, "data_root": root, "split": arguments.split}
    config = TrainConfig.from_parameters({**config, "backbone": arguments.backbone})
    print(found)
    needs = sizes(config, len(found.table)) if len(found.table) else []
    if arguments.time and found.healthy:
        needs += durations(config)
    for need in needs:
        print(f"{need.severity:8}{need}")
    return 0 if found.healthy and all(need.severity != "error" for need in needs) else 1


def _option(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    if name == "mos_range":
        return name, tuple(float(end) for end in value.split(","))
    return name, {"true": True, "false": False}.get(value.lower(), value)


def score(arguments: argparse.Namespace) -> None:
    """Score photographs with the model of a run, to the terminal."""
    from .training.load_model import load_model

    model = load_model(arguments.model)
    for path, value in zip(arguments.photographs, model.score(arguments.photographs), strict=True):
        print(f"{value:.4f}\t{path}")


def main(argv: list[str] | None = None) -> int:
    """Run a command; bad input ends with its message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dpiqa_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (demo, runs, check, score):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(call=command)
    sub.add_argument("photographs", nargs="+", type=Path)
    sub.add_argument("--model", default="demo", help="name or folder of a run (default: demo)")
    sub = commands.choices["check"]
    sub.add_argument("dataset", help="demo, koniq, clive, … : the names in data/README.md")
    sub.add_argument("--root", help="the dataset's folder (default: data/<dataset>)")
    sub.add_argument("--split", default="auto", help="as for training: random-3, a CSV file, …")
    sub.add_argument("--backbone", default="auto", help="whose needs are computed (default: auto)")
    sub.add_argument("--time", action="store_true", help="reckon the training's time from a trial")
    sub.add_argument(
        "--option", action="append", default=[], type=_option, metavar="NAME=VALUE",
        help="of the reader or the scale, such as mos_range=1,5 or keep_training_images=true",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    try:
        return arguments.call(arguments) or 0
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
