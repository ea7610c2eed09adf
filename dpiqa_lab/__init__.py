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
    "notebook_parameters": "core.notebook_parameters",
    "find_run": "core.runs",
    "runs": "core.runs:list_runs",
    "load_dataset": "datasets.dataset",
    "QualityDataset": "datasets.dataset",
    "check_dataset": "datasets.doctor",
    "read_image": "datasets.images",
    "damage_copies": "datasets.copies",
    "load_backbone": "diffusion.loading",
    "FeatureTaps": "diffusion.taps",
    "describe_taps": "diffusion.describe",
    "block_taps": "diffusion.taps",
    "AttentionMaps": "diffusion.attention_maps",
    "map_taps": "diffusion.attention_maps",
    "prompt_texts": "diffusion.prompts",
    "caption": "diffusion.captions",
    "draw": "diffusion.drawing",
    "extract_features": "probing.features",
    "probe": "probing.probe",
    "probe_table": "probing.probe",
    "joined": "probing.probe",
    "numbered_splits": "probing.repeats",
    "repeat_probe": "probing.repeats",
    "probe_grid": "probing.repeats",
    "label_curve": "probing.repeats",
    "over_probes": "probing.repeats",
    "channel_correlations": "probing.correlations",
    "layer_similarity": "probing.correlations",
    "linear_cka": "probing.correlations",
    "mean_pearson": "probing.correlations",
    "extremes": "probing.correlations",
    "activation_maps": "probing.activations",
    "photograph_map": "probing.photograph_map",
    "FeatureProbeConfig": "probing.config",
    "AblationConfig": "probing.config",
    "probe_backbone": "probing.runs",
    "probe_features": "probing.runs",
    "run_probe": "probing.runs",
    "extraction_cost": "probing.cost",
    "Teacher": "models.teacher",
    "Student": "models.student",
    "load_official_teacher": "models.official",
    "load_official_student": "models.official",
    "Encoder": "models.encoders",
    "encoder_features": "models.encoders",
    "TrainConfig": "training.config",
    "train_teacher": "training.teacher_run",
    "PmtIqaConfig": "training.peer_config",
    "QualityEncoderConfig": "training.peer_config",
    "train_pmt_iqa": "training.pmt_iqa_run",
    "train_quality_encoder": "training.quality_encoder_run",
    "DistilConfig": "training.distil_config",
    "train_student": "training.student_run",
    "ship_student": "training.shipping",
    "PriorConfig": "training.prior_config",
    "prior_views": "training.prior_run",
    "train_prior": "training.prior_run",
    "load_model": "training.load_model",
    "BASELINES": "evaluation.baselines",
    "ridge_on_statistics": "evaluation.baselines",
    "ridge_on_encoder": "evaluation.baselines",
    "run_ablation": "evaluation.ablation",
    "ComponentsConfig": "evaluation.components_config",
    "run_components": "evaluation.components",
    "compare_components": "evaluation.components",
    "DistilAblationConfig": "evaluation.distil_ablation_config",
    "run_distillation": "evaluation.distillation",
    "compare_arms": "evaluation.distillation",
    "most_different": "evaluation.distillation",
    "model_costs": "evaluation.model_cost",
    "svr_on_naturalness": "evaluation.baselines",
    "damage_ladder": "evaluation.ladder",
    "ladder_summary": "evaluation.ladder",
    "niqe": "evaluation.niqe",
    "pmt_iqa": "evaluation.peers",
    "re_iqa": "evaluation.peers",
    "load_re_iqa": "models.re_iqa",
    "run_protocol": "evaluation.protocol",
    "over_splits": "evaluation.protocol",
    "beside_published": "evaluation.protocol",
    "published": "evaluation.published",
    "round_trip": "evaluation.reconstruction",
    "linear_round_trip": "evaluation.reconstruction",
    "compare_predictions": "evaluation.comparison",
    "shared_predictions": "evaluation.comparison",
    "EvaluateConfig": "evaluation.evaluate_config",
    "evaluate": "evaluation.evaluate",
    "run_evaluation": "evaluation.evaluate",
    "evaluation_tables": "evaluation.evaluate",
    "cross_dataset": "evaluation.evaluate",
    "quick_teacher": "evaluation.quick_teacher",
    "BenchmarkConfig": "evaluation.benchmark_config",
    "run_benchmark": "evaluation.benchmark",
    "stages_of": "evaluation.stages:table_of",
    "PlainReference": "evaluation.plain_reference",
    "write_report": "workbench.report",
    "results_table": "workbench.report",
    "summary_table": "workbench.report",
    "evaluation_sheets": "workbench.report:sheets",
    "explore": "workbench.panels",
    "ExploreConfig": "workbench.explore_config",
    "Explorer": "workbench.explorer",
    "run_notebook": "workbench.runner",
    "run_sweep": "workbench.sweep",
    "training_needs": "workbench.needs",
    "score_folder": "workbench.bulk",
    "score_parts": "workbench.parts",
    "export_onnx": "workbench.onnx_file",
    "gallery": "workbench.gallery",
}
_MODULES = {"metrics": "metrics", "figures": "workbench.figures"}
__all__ = sorted([*_HOME, *_MODULES])
__version__ = version("dpiqa-lab")


def __getattr__(name: str):
    if name in _MODULES:
        value = import_module(f".{_MODULES[name]}", __name__)
    elif name in _HOME:
        module, _, attribute = _HOME[name].partition(":")
        value = getattr(import_module(f".{module}", __name__), attribute or name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
