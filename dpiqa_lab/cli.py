"""The command line: ``dpiqa <command>``, or ``python -m dpiqa_lab <command>``.

A command imports what it needs when it runs, so that help and errors of usage appear at once.
"""

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option
from typer.main import get_command
from typer.models import OptionInfo

from . import __version__
from .core.command_line import LabGroup, Pairs, PairsCommand, literal, values
from .core.errors import LabError, listing, plain, unknown
from .core.paths import DEFAULT_MODEL, cache_dir, notebook_path, runs_dir

# A few minutes on two cores; otherwise notebook 03's defaults.
DEMO = {
    "run_name": "demo",
    "max_steps": 100,
    "lr_milestones": "2",
    "validate_every": 25,
    "warmup_steps": 10,
    "clip_norm": 1.0,
}

app = typer.Typer(
    cls=LabGroup,
    help="DP-IQA Lab: image quality by what a diffusion model knows.",
    epilog="Each command lists its options by -h. In Python: import dpiqa_lab as lab.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    rich_markup_mode=None,  # the same help in a terminal and in a file
    pretty_exceptions_enable=False,
)


def _command(function: Callable) -> Callable:
    """Add a command named as the function; its docstring is the help, in full in the list too."""
    return app.command(cls=PairsCommand, short_help=inspect.getdoc(function))(function)


def _parameter(text: str) -> OptionInfo:
    return Option("-p", "--parameter", metavar="NAME VALUE", help=text)


Root = Annotated[str | None, Option(help="the dataset's folder; without it data/<dataset>")]
Cluster = Annotated[
    str | None,
    Option(metavar="WHERE", help="Dask workers: local:2, tcp://host:8786, a scheduler's .json"),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dpiqa-lab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


@_command
def demo() -> None:
    """Train the tiny teacher on the demo set by notebook 03, and list the files written."""
    from .automation.notebook_runner import run_notebook
    from .core.runs import Run
    from .metrics import format_metric

    print("notebook 03_train on the demo set: makes it, encodes it once, trains. Takes minutes;")
    print("interrupted, the same command resumes it.", flush=True)
    run = Run(runs_dir() / "demo", {}, "")
    output = run.path.with_name("demo.ipynb")
    run_notebook(notebook_path("03_train"), output, **DEMO)
    output.replace(run.path / "03_train.ipynb")
    test = run.summary()["metrics"]["test"]
    srcc, plcc, low, high = map(format_metric, (test["srcc"], test["plcc"], *test["srcc_ci"]))
    print(
        f"\ntest SRCC {srcc} (95% interval over contents {low} to {high}), PLCC {plcc}, "
        f"{test['n']} photographs of unseen contents"
    )
    print(f"run: {run.path}\nfigures:")
    for path in sorted(run.figures.iterdir()):
        print(f"  {path}")
    print(f"notebook: {run.path / '03_train.ipynb'}")


@_command
def runs(
    check: Annotated[
        str | None,
        Option(metavar="RUN", help="list changes in the inputs of a run since it was made"),
    ] = None,
) -> None:
    """List the runs with what they were trained on and their test metrics."""
    from .core.runs import list_runs

    if check is not None:
        _check_run(check)
    else:
        table = list_runs()
        print(table.to_string(index=False) if len(table) else f"no runs in {runs_dir()} yet")


def _check_run(name: str) -> None:
    """List what changed in a run's inputs; exit code 1 where anything did."""
    from .automation.changed_inputs import INPUTS, changed_inputs
    from .core.identity import recorded_kind
    from .core.runs import find_run

    run = find_run(name)
    kind, known = recorded_kind(run.path), sorted(config.__name__ for config in INPUTS)
    if kind not in known:
        raise LabError(
            f"the inputs of run {run.path} cannot be checked: it was made by "
            f"{kind or 'a configuration that it does not name'}, not by {', '.join(known)}."
        )
    changed = changed_inputs(run)
    print("\n".join(map(plain, changed)) or "nothing has changed")
    if changed:
        raise typer.Exit(1)


@_command
def cache(
    action: Annotated[
        Literal["list", "clear"], Argument(help="list the entries with sizes, or delete them")
    ] = "list",
    kind: Annotated[
        str | None, Argument(help="kind of entries, such as latents; default: every kind")
    ] = None,
) -> None:
    """List or clear the cache of recomputable data: latents, features and the like."""
    import pandas as pd

    from .core.cache import cache_table, clear_cache

    entries = cache_table()
    kinds = {entry["kind"] for entry in entries}
    if kind and kinds and kind not in kinds:
        raise unknown("kind of cache entry", kind, kinds)
    entries = [entry for entry in entries if kind in (None, entry["kind"])]
    table = pd.DataFrame(entries, columns=["kind", "entry", "bytes"])
    size = f"{table['bytes'].sum() / 1e6:,.1f} MB in {cache_dir()}"
    if action == "clear":
        print(f"entries deleted: {clear_cache(kind)}, {size}")
        return
    if len(table):
        table["MB"] = table.pop("bytes") / 1e6
        print(table.to_string(index=False, float_format="{:,.1f}".format))
    print(f"entries: {len(table)}, {size}")


@_command
def check(
    dataset: Annotated[str, Argument(help="demo, koniq, folder (your own), …: see data/README.md")],
    root: Root = None,
    split_scheme: Annotated[str, Option(help="as for training: random-3, a CSV file, …")] = "auto",
    backbone: Annotated[str, Option(help="whose resource needs are computed")] = "auto",
    time: Annotated[bool, Option("--time", help="estimate the training time by a trial")] = False,
    parameter: Annotated[
        Pairs | None,
        _parameter(
            "as for training, any of help(lab.TrainConfig): -p mos_range 1,5, -p mos_column score"
        ),
    ] = None,
) -> None:
    """List what is wrong with a dataset's folder, and what a training on it needs."""
    from .automation.resource_estimate import durations, sizes
    from .datasets.validation import examine
    from .training.teacher_config import TrainConfig

    named = {
        "dataset": dataset,
        "split_scheme": split_scheme,
        "backbone": backbone,
        "data_root": root,
    }
    config = TrainConfig.from_parameters({**named, **values(parameter)})
    report = examine(config)
    print(report)
    needs = sizes(config, len(report.table)) if len(report.table) else []
    if time and report.healthy:
        needs += durations(config)
    for need in needs:
        print(f"{need.severity:8}{need}")
    if not report.healthy or any(need.severity == "error" for need in needs):
        raise typer.Exit(1)


@_command
def train(
    what: Annotated[Literal["teacher", "student"], Argument(help="model to train")],
    parameter: Annotated[
        Pairs | None,
        _parameter("any of help(lab.TrainConfig) or help(lab.DistillConfig), as -p dataset koniq"),
    ] = None,
) -> None:
    """Train a teacher or a student; under "accelerate launch" in several processes."""
    from .core.distributed import is_main

    given = values(parameter)
    if what == "teacher":
        from .training.teacher_config import TrainConfig
        from .training.teacher_run import train_teacher

        run = train_teacher(TrainConfig.from_parameters(given))
    else:
        from .training.student_config import DistillConfig
        from .training.student_run import train_student

        run = train_student(DistillConfig.from_parameters(given))
    if is_main():
        from .training.run_metrics import metrics_line

        print(f"test {metrics_line(run.summary()['metrics']['test'])}\n{run.path}")


@_command
def score(
    photographs: Annotated[
        list[Path],
        Argument(
            help="a folder with its sub-folders, a .txt or .csv list of paths, or photographs",
            readable=False,  # not checked here: unreadable files are listed after the scoring
        ),
    ],
    model: Annotated[str, Option(help="name or folder of a run, or embedded")] = DEFAULT_MODEL,
    out: Annotated[
        Path | None,
        Option(
            help="output, written while scoring: a .csv file, or a folder of Parquet parts with a "
            "manifest; the same command resumes an interrupted scoring"
        ),
    ] = None,
    part_size: Annotated[int, Option(help="photographs per Parquet part")] = 512,
    batch_size: Annotated[int, Option(help="batch size")] = 8,
    device: Annotated[str, Option(help="auto, cpu, cuda or mps")] = "auto",
    precision: Annotated[
        str,
        Option(help="float32, bfloat16, float16, or on a CPU int8: faster, scores change slightly"),
    ] = "float32",
    compile: Annotated[
        bool,
        Option(
            "--compile",
            help="torch.compile: slow at first, then faster; for tens of thousands on a GPU",
        ),
    ] = False,
    cluster: Cluster = None,
) -> None:
    """Score a folder, a list of paths or photographs; print, or write CSV or Parquet parts."""
    if cluster and (out is None or out.suffix):
        raise LabError("--cluster writes Parquet parts: give a folder by --out, as --out scores.")
    if out is not None and not out.suffix:
        from .scoring.parquet_scores import score_parts, unreadable

        manifest = score_parts(
            photographs, out, model, batch_size, device, cluster, part_size, precision, compile
        )
        count = manifest["unreadable"]
        reasons = listing(unreadable(out)) if count else ""
        where = f", see column reason in {out}"
        return _end_scoring(
            manifest["photographs"] - count, manifest, count, where, reasons, manifest
        )
    from .scoring.score import score_photographs
    from .scoring.scores_csv import unreadable_path

    table = score_photographs(photographs, model, out, batch_size, device, precision, compile)
    if out is None:
        for row in table.itertuples():
            print(f"{row.score:.4f}\t{plain(row.name)}")
    where = f", see {unreadable_path(out)}" if out else ""
    bad = [f"{name}: {reason}" for name, reason in table.attrs["unreadable"].items()]
    model_used = table.attrs["model"]
    return _end_scoring(len(table), table.attrs, len(bad), where, listing(bad), model_used)


def _end_scoring(
    scored: int, counts: dict, bad: int, where: str, reasons: str, model: dict
) -> None:
    """Print the summary of a scoring by ``model``; exit code 1 if any photograph was ``bad``."""
    new, seconds = counts["new"], counts["seconds"]
    pace = f", {new / seconds:.1f} a second" if new and seconds else ""
    text = f"{scored} photographs scored, {new} of them now in {seconds:.1f} s{pace}"
    if bad:
        text += f"; {bad} could not be{where}:\n{reasons}"
    if model["scale"]:
        text += f"\n{model['scale']}; others may rate photographs on another scale"
    print(text, file=sys.stderr)
    if bad:
        raise typer.Exit(1)


@_command
def export_onnx(
    model: Annotated[str, Argument(help="name or folder of a run of a student, or embedded")],
    file: Annotated[Path, Argument(help="output, *.onnx")],
) -> None:
    """Write a student as an ONNX file, with the same scores without PyTorch."""
    from .scoring.onnx_export import export_onnx

    path = export_onnx(model, file)
    print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


@_command
def convert(
    checkpoint: Annotated[Path, Argument(help="the authors' .pth, of a teacher or a student")],
    folder: Annotated[Path, Argument(help="output folder, absent or empty")],
    prompts: Annotated[
        Path | None,
        Option(help="a teacher's prompt embeddings (.pth); without it CLIP's encoder is fetched"),
    ] = None,
) -> None:
    """Convert a checkpoint of DP-IQA's authors into a folder of safetensors that this lab loads."""
    from .training.conversion import convert

    run = convert(checkpoint, folder, prompts)
    size = sum(path.stat().st_size for path in run.checkpoints.iterdir()) / 1e9
    print(
        f"{run.config['kind']} in {run.path}, {size:.2f} GB. Its weights stay under their authors' "
        "terms.\nScore by: python -m dpiqa_lab score --model "
        f"{shlex.quote(str(run.path))} <photographs>"
    )


@_command
def protocol(
    dataset: Annotated[str, Argument(help="koniq, clive, …")],
    root: Root = None,
    splits: Annotated[int, Option(help="number of splits")] = 10,
    parameter: Annotated[
        Pairs | None, _parameter("any of help(lab.TrainConfig), as -p backbone sd15")
    ] = None,
) -> None:
    """Train and test on numbered splits; print medians beside published results."""
    from .evaluation.protocol import beside_published, run_protocol, summarize_splits
    from .training.teacher_config import TrainConfig

    config = TrainConfig.from_parameters(
        {"dataset": dataset, "data_root": root, **values(parameter)}
    )
    table = run_protocol(config, splits)
    for result in (table, summarize_splits(table), beside_published(table, config)):
        print(f"\n{result.to_string(float_format='{:.3f}'.format)}")


@_command
def sweep(
    notebook: Annotated[Path, Argument(help="as notebooks/02_timestep_ablation.ipynb")],
    grid: Annotated[
        Pairs,
        Option("-g", "--grid", metavar="NAME V1,V2,…", help="values to try, as -g timestep 1,10"),
    ],
    parameter: Annotated[
        Pairs | None, _parameter("a parameter that all runs share, as -p dataset koniq")
    ] = None,
    name: Annotated[
        str | None, Option(help="name of the sweep's folder; by default derived")
    ] = None,
    cluster: Cluster = None,
) -> None:
    """Run a notebook over a grid of parameters; finished runs are not repeated."""
    from .automation.sweep import run_sweep

    variants = {name: [literal(text) for text in texts.split(",")] for name, texts in grid}
    table = run_sweep(notebook, variants, values(parameter), name, cluster)
    print(f"\n{table.to_string(index=False, float_format='{:.3f}'.format)}")
    failed = int((table["status"] != "completed").sum())
    if failed:
        raise LabError(f"{failed} of {len(table)} runs failed; the same command tries these again.")


def main(argv: list[str] | None = None) -> int:
    """Run a command of the program.

    Args:
        argv: arguments, as ``["score", "photos"]``; ``None`` takes those of the process.

    Returns:
        The exit code: 0, 1 after a failed check (unreadable photographs, a dataset with errors,
        changed inputs of a run), 2 for bad input, with a message on stderr, 130 after Ctrl-C.
    """
    if hasattr(sys.stdout, "reconfigure"):  # for names that the terminal cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(get_command(app).main(argv))
    except SystemExit as ended:  # how typer ends every command
        return int(ended.code or 0)
