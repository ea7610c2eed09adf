"""Whether the inputs of a finished run have changed since."""

import dataclasses
from collections.abc import Callable

from ..core.config import Configuration
from ..core.identity import Identity, Inputs, recorded_kind
from ..core.runs import Run
from ..evaluation.evaluate import evaluation_inputs
from ..evaluation.evaluate_config import EvaluateConfig
from ..experiments.benchmark import benchmark_inputs
from ..experiments.benchmark_config import BenchmarkConfig
from ..experiments.component_ablation_config import ComponentsConfig
from ..experiments.distillation_ablation import distillation_inputs
from ..experiments.distillation_ablation_config import DistillationConfig
from ..probing.probe_config import AblationConfig, ProbeConfig
from ..probing.probe_runs import probe_inputs
from ..training.student_config import DistillConfig
from ..training.student_run import student_inputs
from ..training.teacher_config import TrainConfig
from ..training.teacher_run import teacher_inputs

# The function that lists the inputs of a run, by its configuration.
INPUTS: dict[type[Configuration], Callable[..., Inputs]] = {
    ProbeConfig: probe_inputs,
    AblationConfig: probe_inputs,
    TrainConfig: teacher_inputs,
    DistillConfig: student_inputs,
    DistillationConfig: distillation_inputs,
    EvaluateConfig: evaluation_inputs,
    BenchmarkConfig: benchmark_inputs,
    ComponentsConfig: teacher_inputs,
}


def changed_inputs(run: Run) -> list[str]:
    """Differences between a run's recorded inputs and those on disk now.

    A sentence each; none where nothing changed, or for a run of a kind not in ``INPUTS``.

    Raises:
        LabError: photographs, scores or models are missing.
    """
    kind = recorded_kind(run.path)
    for config_class, inputs in INPUTS.items():
        if config_class.__name__ == kind:
            names = {field.name for field in dataclasses.fields(config_class)}
            config = config_class(**{n: v for n, v in run.config.items() if n in names})
            # The recorded parameters include more, such as the number of processes.
            return Identity(run.config, inputs(config), kind).differences(run.path)
    return []
