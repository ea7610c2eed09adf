"""The command line: ``python -m dpiqa_lab <command>``."""

import argparse
import ast
import shlex
import sys
from pathlib import Path

from . import __version__
from .core.errors import LabError, listing, plain
from .core.paths import DEFAULT_MODEL, notebook_path, runs_dir

# What fits into a few minutes of two cores; notebook 03's other defaults are the demo's.
DEMO = {
    "run_name": "demo",
    "max_steps": 100,
    "lr_milestones": "2",
    "validate_every": 25,
    "warmup_steps": 10,
    "clip_norm": 1.0,
}


def demo(arguments: argparse.Namespace) -> None:
    """Train the tiny teacher on the demo set through notebook 03, and say where things are."""
    from .core.runs import Run
    from .metrics import said
    from .workbench.runner import run_notebook

    print("notebook 03_train on the demo set: makes it, encodes it once, trains. Takes minutes;")
    print("interrupted, the same command goes on where it stopped.", flush=True)
    run = Run(runs_dir() / "demo", {}, "")
    output = run.path.with_name("demo.ipynb")
    run_notebook(notebook_path("03_train"), output, **DEMO)
    output.replace(run.path / "03_train.ipynb")
    test = run.summary()["metrics"]["test"]
    srcc, plcc, low, high = map(said, (test["srcc"], test["plcc"], *test["srcc_ci"]))
    print(
        f"\ntest SRCC {srcc} (95% interval over contents {low} to {high}), PLCC {plcc}, "
        f"{test['n']} photographs of unseen contents"
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

    given = {name: _literal(value) for name, value in arguments.parameter}
    named = {name: getattr(arguments, name) for name in ("dataset", "split", "backbone")}
    config = TrainConfig.from_parameters({**named, "data_root": arguments.root, **given})
    found = examine(config)
    print(found)
    needs = sizes(config, len(found.table)) if len(found.table) else []
    if arguments.time and found.healthy:
        needs += durations(config)
    for need in needs:
        print(f"{need.severity:8}{need}")
    return 0 if found.healthy and all(need.severity != "error" for need in needs) else 1


def score(arguments: argparse.Namespace) -> int:
    """Score a folder, a list of paths or photographs: shown, or to a CSV file or Parquet parts."""
    out = arguments.out
    if arguments.cluster and (out is None or out.suffix):
        raise LabError("--cluster writes Parquet parts: give a folder by --out, as --out scores.")
    if out is not None and not out.suffix:
        return _score_parts(arguments)
    from .workbench.bulk import score_photographs
    from .workbench.score_sheet import unreadable_path

    table = score_photographs(
        arguments.photographs, arguments.model, out, arguments.batch_size, arguments.device,
        arguments.precision, arguments.compile,
    )  # fmt: skip
    if out is None:
        for row in table.itertuples():
            print(f"{row.score:.4f}\t{plain(row.name)}")
    where = f", see {unreadable_path(out)}" if out else ""
    reasons = [f"{name}: {reason}" for name, reason in table.attrs["unreadable"].items()]
    new, seconds = table.attrs["new"], table.attrs["seconds"]
    bad = len(reasons)
    return _told(len(table), new, seconds, bad, where, listing(reasons), table.attrs["model"])


def _score_parts(arguments: argparse.Namespace) -> int:
    from .workbench.parts import score_parts, unreadable

    manifest = score_parts(
        arguments.photographs,
        arguments.out,
        arguments.model,
        arguments.batch_size,
        arguments.device,
        arguments.cluster,
        arguments.part_size,
        arguments.precision,
        arguments.compile,
    )
    bad = manifest["unreadable"]
    scored, new, seconds = manifest["photographs"] - bad, manifest["new"], manifest["seconds"]
    reasons = listing(unreadable(arguments.out)) if bad else ""
    where = f", see column reason in {arguments.out}"
    return _told(scored, new, seconds, bad, where, reasons, manifest)


def _told(
    scored: int, new: int, seconds: float, bad: int, where: str, reasons: str, model: dict
) -> int:
    """Say how a scoring by ``model`` went; the exit code, 1 where photographs were ``bad``."""
    pace = f", {new / seconds:.1f} a second" if new and seconds else ""
    said = f"{scored} photographs scored, {new} of them now in {seconds:.1f} s{pace}"
    if bad:
        said += f"; {bad} could not be{where}:\n{reasons}"
    if model["scale"]:
        said += f"\n{model['scale']}; others may rate photographs on another scale"
    print(said, file=sys.stderr)
    return 1 if bad else 0


def convert(arguments: argparse.Namespace) -> None:
    """Write a checkpoint of DP-IQA's authors as a folder of safetensors that this lab opens."""
    from .training.converted import convert

    run = convert(arguments.checkpoint, arguments.folder, arguments.prompts)
    size = sum(path.stat().st_size for path in run.checkpoints.iterdir()) / 1e9
    print(
        f"{run.config['kind']} in {run.path}, {size:.2f} GB. Its weights stay under their authors' "
        "terms.\nScore by: python -m dpiqa_lab score --model "
        f"{shlex.quote(str(run.path))} <photographs>"
    )


def train(arguments: argparse.Namespace) -> None:
    """Train a teacher or a student; under ``accelerate launch`` in several processes."""
    from .core.processes import is_main

    given = {name: _literal(value) for name, value in arguments.parameter}
    if arguments.what == "teacher":
        from .training.config import TrainConfig
        from .training.teacher_run import train_teacher

        run = train_teacher(TrainConfig.from_parameters(given))
    else:
        from .training.distil_config import DistilConfig
        from .training.student_run import train_student

        run = train_student(DistilConfig.from_parameters(given))
    if is_main():
        from .training.run_metrics import metrics_line

        print(f"test {metrics_line(run.summary()['metrics']['test'])}\n{run.path}")


def export_onnx(arguments: argparse.Namespace) -> None:
    """Write a student as an ONNX file, which gives the same scores without PyTorch."""
    from .workbench.onnx_file import export_onnx

    path = export_onnx(arguments.model, arguments.file)
    print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


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
    table = run_sweep(arguments.notebook, grid, given, arguments.name, arguments.cluster)
    print(f"\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
    failed = int((table["status"] != "completed").sum())
    if failed:
        raise LabError(f"{failed} of {len(table)} runs failed; the same command tries these again.")


def _literal(text: str):
    """A number, True, False or None as itself; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line; what it parsed has ``call``, the function to run."""
    parser = argparse.ArgumentParser(
        prog="python -m dpiqa_lab",
        description="DP-IQA Lab: image quality by what a diffusion model knows.",
        epilog="Each command tells its options by -h. In Python: import dpiqa_lab as lab.",
    )
    parser.add_argument("--version", action="version", version=f"dpiqa-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {}
    for command in (demo, runs, check, train, score, export_onnx, convert, protocol, sweep):
        name = command.__name__.replace("_", "-")
        said = command.__doc__.replace("``", "")
        parsers[command] = commands.add_parser(name, help=said, description=said)
        parsers[command].set_defaults(call=command)
    sub = parsers[check]
    sub.add_argument("dataset", help="demo, koniq, folder (your own), …: see data/README.md")
    sub.add_argument("--root", help="the dataset's folder (default: data/<dataset>)")
    sub.add_argument("--split", default="auto", help="as for training: random-3, a CSV file, …")
    sub.add_argument("--backbone", default="auto", help="whose needs are computed (default: auto)")
    sub.add_argument("--time", action="store_true", help="reckon the training's time from a trial")
    _take_parameters(
        sub, "as for training, any of help(lab.TrainConfig): -p mos_range 1,5, -p mos_column score"
    )
    sub = parsers[train]
    sub.add_argument("what", choices=("teacher", "student"), help="what is trained")
    _take_parameters(
        sub, "any of help(lab.TrainConfig) or help(lab.DistilConfig), as -p dataset koniq"
    )
    sub = parsers[score]
    sub.add_argument(
        "photographs", nargs="+", type=Path,
        help="a folder with its sub-folders, a .txt or .csv list of paths, or photographs",
    )  # fmt: skip
    sub.add_argument(
        "--model", default=DEFAULT_MODEL,
        help=f"name or folder of a run, or embedded (default: {DEFAULT_MODEL})",
    )  # fmt: skip
    sub.add_argument(
        "--out", type=Path,
        help="to write as photographs are scored: a .csv file, or a folder for Parquet parts with "
        "one manifest; the same command goes on where it ended",
    )  # fmt: skip
    sub.add_argument(
        "--part-size", type=int, default=512, help="photographs a Parquet part (default: 512)"
    )
    sub.add_argument("--batch-size", type=int, default=8, help="photographs a pass (default: 8)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    sub.add_argument(
        "--precision", default="float32",
        help="float32, bfloat16, float16, or on a CPU int8: faster, scores a little off "
        "(default: float32)",
    )  # fmt: skip
    sub.add_argument(
        "--compile", action="store_true",
        help="by torch.compile: a minute at first, then faster; for tens of thousands on a GPU",
    )  # fmt: skip
    sub = parsers[export_onnx]
    sub.add_argument("model", help="name or folder of a run of a student, or embedded")
    sub.add_argument("file", type=Path, help="to write, *.onnx")
    sub = parsers[convert]
    sub.add_argument("checkpoint", type=Path, help="the authors' .pth, of a teacher or a student")
    sub.add_argument("folder", type=Path, help="folder to write, absent or empty")
    sub.add_argument(
        "--prompts",
        type=Path,
        help="a teacher's prompt embeddings (.pth); without it CLIP's text encoder is fetched",
    )
    sub = parsers[protocol]
    sub.add_argument("dataset", help="koniq, clive, …")
    sub.add_argument("--root", help="the dataset's folder (default: data/<dataset>)")
    sub.add_argument("--splits", type=int, default=10, help="how many (default: 10)")
    _take_parameters(sub, "any of help(lab.TrainConfig), as -p backbone sd15")
    sub = parsers[sweep]
    sub.add_argument("notebook", type=Path, help="as notebooks/02_timestep_ablation.ipynb")
    _take_parameters(sub, "a parameter that all runs share, as -p dataset koniq")
    sub.add_argument(
        "-g", "--grid", nargs=2, action="append", required=True, metavar=("NAME", "V1,V2,…"),
        help="a parameter and its values, as -g timestep 1,10,100",
    )  # fmt: skip
    sub.add_argument("--name", help="of the sweep's folder (default: made up)")
    for command in (score, sweep):
        parsers[command].add_argument(
            "--cluster", metavar="WHERE",
            help="spread over Dask workers: local:2, tcp://host:8786 or a scheduler's .json file",
        )  # fmt: skip
    return parser


def _take_parameters(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help=what,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run a command; bad input ends with its message and exit code 2."""
    if hasattr(sys.stdout, "reconfigure"):  # names may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.call(arguments) or 0
    except (LabError, OSError) as error:  # a full disk, a folder that must not be written
        print(f"error: {LabError(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from what is finished", file=sys.stderr)
        return 130  # as a shell calls what Ctrl-C has ended


if __name__ == "__main__":
    sys.exit(main())
