"""The start of a student with a pretrained trunk: ridge regression on all stages' statistics."""

import copy

import numpy as np
import torch

from .. import metrics
from ..models.stage_head import StageHead
from ..ridge import fit_ridge

# SRCC on val that a stronger penalty may cost: with thousands of features the stronger says the
# less of photographs unlike those it was fitted to.
_TOLERANCE = 0.005


def init_stage_head_from_ridge(
    head: StageHead,
    features: np.ndarray,
    mos: np.ndarray,
    features_val: np.ndarray,
    mos_val: np.ndarray,
) -> None:
    """Let ``head`` be the ridge regression of ``mos`` (n,) on ``features`` (n, k).

    Args:
        head: as it was built, so that these features are its ``norm``'s.
        features_val, mos_val: (m, k) and (m,), by which the penalty is chosen.
    """
    head.standardise(features)
    norm = copy.deepcopy(head.norm).double().cpu()
    x, x_val = (norm(torch.from_numpy(part)).numpy() for part in (features, features_val))
    ridge = fit_ridge(x, mos, x_val, mos_val, tolerance=_TOLERANCE)
    scaler, line = ridge.named_steps.values()
    weight = line.coef_ / scaler.scale_
    head.start_at(weight, float(line.intercept_ - weight @ scaler.mean_))
    found = metrics.srcc(ridge.predict(x_val), mos_val)
    print(
        f"start: ridge on {x.shape[1]} statistics, penalty {line.alpha:g}, "
        f"val srcc {metrics.format_metric(found)}"
    )
