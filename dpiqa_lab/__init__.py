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
    "check_dataset": "datasets.validation",
    "read_image": "datasets.images",
    "distorted_copies": "datasets.distorted_copies",
    "load_backbone": "diffusion.loading",
    "FeatureTaps": "diffusion.taps",
    "describe_taps": "diffusion.tap_table",
    "block_taps": "diffusion.taps",
    "AttentionMaps": "diffusion.attention_maps",
    "map_taps": "diffusion.attention_maps",
    "prompt_texts": "diffusion.prompts",
    "distortion_prompt": "diffusion.distortion_prompts",
    "generate_images": "diffusion.generation",
    "extract_features": "probing.features",
    "probe": "probing.probe",
    "probe_table": "probing.probe",
    "concat_features": "probing.probe",
    "numbered_splits": "probing.repeats",
    "repeat_probe": "probing.repeats",
    "probe_grid": "probing.repeats",
    "label_curve": "probing.repeats",
    "summarize_probes": "probing.repeats",
    "channel_correlations": "probing.correlations",
    "layer_similarity": "probing.correlations",
    "linear_cka": "probing.correlations",
    "mean_pearson": "probing.correlations",
    "top_bottom_images": "probing.correlations",
    "activation_maps": "probing.activations",
    "photograph_map": "probing.image_map",
    "ProbeConfig": "probing.probe_config",
    "AblationConfig": "probing.probe_config",
    "probe_backbone": "probing.probe_runs",
    "probe_features": "probing.probe_runs",
    "run_probe": "probing.probe_runs",
    "extraction_cost": "probing.cost",
    "Teacher": "models.teacher",
    "Student": "models.student",
    "load_official_teacher": "models.official",
    "load_official_student": "models.official",
    "Encoder": "models.encoders",
    "encoder_features": "models.encoders",
    "TrainConfig": "training.teacher_config",
    "train_teacher": "training.teacher_run",
    "PmtIqaConfig": "training.peer_config",
    "QualityEncoderConfig": "training.peer_config",
    "train_pmt_iqa": "training.pmt_iqa_run",
    "train_quality_encoder": "training.quality_encoder_run",
    "DistillConfig": "training.student_config",
    "train_student": "training.student_run",
    "ship_student": "training.shipping",
    "PriorConfig": "experiments.prior_config",
    "prior_views": "experiments.prior_run",
    "train_prior": "experiments.prior_run",
    "load_model": "training.load_model",
    "BASELINES": "evaluation.baselines",
    "ridge_on_statistics": "evaluation.baselines",
    "ridge_on_encoder": "evaluation.baselines",
    "run_ablation": "experiments.timestep_ablation",
    "ComponentsConfig": "experiments.component_ablation_config",
    "run_components": "experiments.component_ablation",
    "compare_components": "experiments.component_ablation",
    "DistillationConfig": "experiments.distillation_ablation_config",
    "run_distillation": "experiments.distillation_ablation",
    "compare_variants": "experiments.distillation_ablation",
    "most_different": "experiments.distillation_ablation",
    "model_costs": "experiments.model_cost",
    "svr_on_naturalness": "evaluation.baselines",
    "distortion_ladder": "evaluation.distortion_ladder",
    "ladder_summary": "evaluation.distortion_ladder",
    "niqe": "evaluation.niqe",
    "pmt_iqa": "evaluation.peers",
    "re_iqa": "evaluation.peers",
    "load_re_iqa": "models.re_iqa",
    "run_protocol": "evaluation.protocol",
    "summarize_splits": "evaluation.protocol",
    "beside_published": "evaluation.protocol",
    "published": "evaluation.published_results",
    "reconstruct": "experiments.reconstruction",
    "linear_reconstruction": "experiments.reconstruction",
    "compare_predictions": "evaluation.prediction_comparison",
    "shared_predictions": "evaluation.prediction_comparison",
    "EvaluateConfig": "evaluation.evaluate_config",
    "evaluate": "evaluation.evaluate",
    "run_evaluation": "evaluation.evaluate",
    "evaluation_tables": "evaluation.evaluate",
    "cross_dataset": "evaluation.evaluate",
    "quick_teacher": "evaluation.quick_teacher",
    "BenchmarkConfig": "experiments.benchmark_config",
    "run_benchmark": "experiments.benchmark",
    "select_stages": "experiments.stage_profile:select_stages",
    "PlainReference": "experiments.plain_reference",
    "write_report": "viz.report",
    "results_table": "viz.report",
    "summary_table": "viz.report",
    "evaluation_sheets": "viz.report:sheets",
    "explore": "explorer.app",
    "ExploreConfig": "explorer.explore_config",
    "Explorer": "explorer.explorer",
    "run_notebook": "automation.notebook_runner",
    "run_sweep": "automation.sweep",
    "training_needs": "automation.resource_estimate",
    "score_folder": "scoring.score",
    "score_parts": "scoring.parquet_scores",
    "export_onnx": "scoring.onnx_export",
    "gallery": "viz.gallery",
}
_MODULES = {"metrics": "metrics", "figures": "viz.figures"}
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
