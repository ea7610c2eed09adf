"""DP-IQA Lab: a workbench for image quality assessment with what a diffusion model knows.

Names are loaded when first used, so that ``import dpiqa_lab`` costs little.
"""

from importlib import import_module
from importlib.metadata import version

_HOME = {
    "LabError": "core.errors",
    "choose_compute": "core.device",
    "cache_table": "core.cache",
    "clear_cache": "core.cache",
    "notebook_parameters": "core.parameters",
    "find_run": "core.runs",
    "runs": "core.runs:list_runs",
    "load_dataset": "datasets.dataset",
    "QualityDataset": "datasets.dataset",
    "read_image": "datasets.images",
    "load_backbone": "diffusion.loading",
    "FeatureTaps": "diffusion.taps",
    "describe_taps": "diffusion.describe",
    "prompt_texts": "diffusion.prompts",
    "Teacher": "models.teacher",
    "TrainConfig": "training.config",
    "train_teacher": "training.teacher_run",
    "load_model": "training.load_model",
    "ridge_on_statistics": "evaluation.baselines",
    "metrics": "metrics",
    "figures": "workbench.figures",
    "run_notebook": "workbench.runner",
}
__all__ = sorted(_HOME)
__version__ = version("dpiqa-lab")


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, _, attribute = _HOME[name].partition(":")
    module = import_module(f".{module_name}", __name__)
    is_module = module_name.rsplit(".", 1)[-1] == name and not hasattr(module, name)
    value = module if is_module else getattr(module, attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
