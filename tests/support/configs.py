"""Parameters of the smallest runs, and which notebook has which configuration."""

from dpiqa_lab.evaluation.evaluate_config import EvaluateConfig
from dpiqa_lab.experiments.benchmark_config import BenchmarkConfig
from dpiqa_lab.experiments.component_ablation_config import ComponentsConfig
from dpiqa_lab.experiments.distillation_ablation_config import DistillationConfig
from dpiqa_lab.experiments.prior_config import PriorConfig
from dpiqa_lab.explorer.explore_config import ExploreConfig
from dpiqa_lab.probing.probe_config import AblationConfig, ProbeConfig
from dpiqa_lab.training.teacher_config import TrainConfig

QUICK = {
    "dataset": "folder", "mos_range": "0,100", "backbone": "tiny", "prompts": "none",
    "image_size": 64, "decoder_width": 8, "batch_size": 4, "validate_every": 2, "device": "cpu",
}  # fmt: skip
STUDENT = {
    "dataset": "folder", "mos_range": "0,100", "trunk": "efficientnet_tiny", "image_size": 64,
    "student_width": 8, "batch_size": 6, "validate_every": 2, "max_steps": 4, "device": "cpu",
    "precision": "float32",
}  # fmt: skip
PRIOR = {
    "views": 1, "vae_steps": 4, "vae_linear": 2, "vae_batch": 2, "vae_crop": 64, "decoder_steps": 4,
    "adapter_steps": 4, "adapter_batch": 2, "unet_steps": 4, "unet_batch": 2, "validate_every": 2,
    "workers": 0, "device": "cpu",
}  # fmt: skip
CONFIGS = {
    "00_pretrain_prior": PriorConfig,
    "01_feature_probing": ProbeConfig,
    "02_timestep_ablation": AblationConfig,
    "03_train": TrainConfig,
    "05_evaluate": EvaluateConfig,
    "04_distill": DistillationConfig,
    "06_explore": ExploreConfig,
    "07_benchmark": BenchmarkConfig,
    "08_components": ComponentsConfig,
}
