"""The scale of released scores: ends, direction and dataset; conversion to [0,1] and back."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from ..core.errors import LabError

T = TypeVar("T", float, np.ndarray, pd.Series)
# ``Scale.record`` of a model whose scale is unknown.
UNKNOWN_SCALE = dict.fromkeys(("mos_range", "lower_better", "raw_mos", "scale"))


class Scale(NamedTuple):
    """A scale from ``low`` to ``high``, mapped to [0,1], where 0 is worst and 1 best.

    lower_better: ``None`` if unknown. of: label of the dataset, see ``label_from``.
    """

    low: float
    high: float
    lower_better: bool | None
    of: str

    def normalised(self, raw: T) -> T:
        """Released scores on [0,1]; the direction must be known."""
        scaled = (raw - self.low) / (self.high - self.low)
        return 1 - scaled if self.lower_better else scaled

    def raw(self, score: T) -> T:
        """Inverse of ``normalised``.

        Raises:
            LabError: the direction is unknown.
        """
        if self.lower_better is None:
            raise LabError(f"the scale of {self.of}, {self}: scores cannot be mapped back to it.")
        step = score * (self.high - self.low)
        return self.high - step if self.lower_better else self.low + step

    def agrees(self, other: "Scale") -> bool:
        """Whether the ends are equal, and the directions if both are known."""
        directions = {self.lower_better, other.lower_better} - {None}
        return self[:2] == other[:2] and len(directions) < 2

    @property
    def ends(self) -> str:
        """For example "0 to 100"."""
        return f"{_digits(self.low)} to {_digits(self.high)}"

    @property
    def better(self) -> str:
        """For example "lower is better"."""
        if self.lower_better is None:
            return "which end is better is not recorded"
        return f"{'lower' if self.lower_better else 'higher'} is better"

    @property
    def formula(self) -> str | None:
        """``raw`` as text, "100 - score * 100"; ``None`` if the direction is unknown."""
        if self.lower_better is None:
            return None
        span = _digits(self.high - self.low)
        start, sign = (self.high, "-") if self.lower_better else (self.low, "+")
        return f"{_digits(start)} {sign} score * {span}"

    def __str__(self) -> str:
        return f"{self.ends} ({self.better})"

    def sentence(self) -> str:
        """Explanation of a score on [0,1] and of its conversion back."""
        back = f", MOS = {self.formula}" if self.formula else ": scores cannot be mapped back"
        return (
            f"on the scale of {self.of}: 0 is its worst, 1 its best (MOS from {self.ends} there); "
            f"of MOS {self.better}{back}"
        )

    def record(self) -> dict:
        """The scale as recorded in files of scores; JSON."""
        return {
            "mos_range": [self.low, self.high],
            "lower_better": self.lower_better,
            "raw_mos": self.formula,
            "scale": self.sentence(),
        }


def scale_of(config: Mapping[str, Any]) -> Scale | None:
    """The scale on which a run or an embedded model was trained; ``None`` if not recorded.

    Args:
        config: parameters; early versions did not record ``lower_better``.
    """
    if not config.get("mos_range"):
        return None
    of = label_from(str(config.get("dataset", "its dataset")), config.get("data_root"))
    return Scale(*check_scale(config["mos_range"]), config.get("lower_better"), of)


def check_scale(mos_range: Sequence[float]) -> tuple[float, float]:
    """``mos_range`` as two floats; LabError if it is not two numbers, lowest first."""
    if len(mos_range) != 2 or not -math.inf < mos_range[0] < mos_range[1] < math.inf:
        raise LabError(f"mos_range must be two numbers, lowest first, got {mos_range!r}.")
    return float(mos_range[0]), float(mos_range[1])


def label_from(name: str, root: Path | str | None) -> str:
    """A dataset's label in tables: its name, or the name of a user's own folder."""
    return Path(root).name if name == "folder" and root else name


def _digits(value: float) -> str:
    return f"{value:.15g}"
