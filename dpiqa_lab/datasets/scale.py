"""The scale of released scores: its ends, which of them is better, whose it is; [0,1] and back."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..core.errors import LabError

T = TypeVar("T")  # a number, or an array or column of them
# What is recorded of the scale of a model that does not know its own, see ``Scale.record``.
UNKNOWN_SCALE = dict.fromkeys(("mos_range", "lower_better", "raw_mos", "scale"))


class Scale(NamedTuple):
    """Scores as released, from ``low`` to ``high``, and on [0,1], where 0 is worst and 1 best.

    lower_better: ``None`` where nothing records it. of: label of the dataset, see ``label_from``.
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
        """What ``normalised`` was given.

        Raises:
            LabError: nothing records which end is better.
        """
        if self.lower_better is None:
            raise LabError(f"the scale of {self.of}, {self}: scores cannot be mapped back to it.")
        step = score * (self.high - self.low)
        return self.high - step if self.lower_better else self.low + step

    def agrees(self, other: "Scale") -> bool:
        """Whether the ends are the same, and the directions as far as they are known."""
        directions = {self.lower_better, other.lower_better} - {None}
        return self[:2] == other[:2] and len(directions) < 2

    @property
    def ends(self) -> str:
        """As "0 to 100"."""
        return f"{_digits(self.low)} to {_digits(self.high)}"

    @property
    def better(self) -> str:
        """As "lower is better"."""
        if self.lower_better is None:
            return "which end is better is not recorded"
        return f"{'lower' if self.lower_better else 'higher'} is better"

    @property
    def formula(self) -> str | None:
        """``raw`` as text, "100 - score * 100"; ``None`` where the direction is unknown."""
        if self.lower_better is None:
            return None
        span = _digits(self.high - self.low)
        start, sign = (self.high, "-") if self.lower_better else (self.low, "+")
        return f"{_digits(start)} {sign} score * {span}"

    def __str__(self) -> str:
        return f"{self.ends} ({self.better})"

    def sentence(self) -> str:
        """What a score on [0,1] means and how it is mapped back, for a reader of scores."""
        back = f", MOS = {self.formula}" if self.formula else ": scores cannot be mapped back"
        return (
            f"on the scale of {self.of}: 0 is its worst, 1 its best (MOS from {self.ends} there); "
            f"of MOS {self.better}{back}"
        )

    def record(self) -> dict:
        """What a file of scores records of their scale; JSON."""
        return {
            "mos_range": [self.low, self.high],
            "lower_better": self.lower_better,
            "raw_mos": self.formula,
            "scale": self.sentence(),
        }


def scale_of(config: Mapping[str, object]) -> Scale | None:
    """The scale that a run or a shipped model was trained on; ``None`` where it is not recorded.

    Args:
        config: parameters; ``lower_better`` is not in those of models shipped by early versions.
    """
    if not config.get("mos_range"):
        return None
    of = label_from(str(config.get("dataset", "its dataset")), config.get("data_root"))
    return Scale(*check_scale(config["mos_range"]), config.get("lower_better"), of)


def check_scale(mos_range) -> tuple[float, float]:
    """``mos_range`` as two floats; LabError where it is not two numbers, lowest first."""
    if len(mos_range) != 2 or not -math.inf < mos_range[0] < mos_range[1] < math.inf:
        raise LabError(f"mos_range must be two numbers, lowest first, got {mos_range!r}.")
    return float(mos_range[0]), float(mos_range[1])


def label_from(name: str, root: Path | str | None) -> str:
    """What a dataset is called in tables: its name, or that of one's own folder."""
    return Path(root).name if name == "folder" and root else name


def _digits(value: float) -> str:
    return f"{value:.15g}"
