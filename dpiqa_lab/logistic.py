"""The logistic mapping from scores to mean opinion scores (MOS), and its fit."""

import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch

from .core.errors import LabError

# The search starts from each scale (of standardised scores) at its best quantile.
_CENTRES = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
_SCALES = (0.04, 0.1, 0.3, 1.0)
# Bound of a curve's limits, in standard deviations of MOS: float64 has two digits left there.
_HIGHEST = 1e14

Vector = np.ndarray | torch.Tensor | Sequence[float]
Point = np.ndarray | tuple[float, float]  # centre and logarithm of scale


@dataclass(frozen=True)
class Logistic:
    """``low + (high - low) / (1 + exp(-(x - centre) / scale))``; ``scale`` > 0, in units of x.

    ``high`` and ``low``, the limits for large and small x, are in units of MOS; a decreasing curve
    has ``high`` < ``low``. A fit that failed has NaN for its parameters and everywhere.
    """

    high: float
    low: float
    centre: float
    scale: float

    def __call__(self, x: Vector) -> np.ndarray:
        """The curve at ``x`` (any shape), float64 of that shape."""
        from scipy.special import expit

        gate = expit((float64(x, "x") - self.centre) / self.scale)
        return self.low + (self.high - self.low) * gate

    @property
    def fitted(self) -> bool:
        """Whether the fit succeeded."""
        return bool(np.isfinite(astuple(self)).all())


def fit_logistic(pred: Vector, mos: Vector) -> Logistic:
    """The least-squares logistic from scores to MOS, both of shape (n,).

    The 4-parameter monotone curve of VQEG (final report, phase I, 2000). Both axes are standardised
    and the best of several starts is taken, as the sum of squares has local minima. A straight line
    and a step give a very wide and a very narrow curve. If n < 5, an input is constant or no start
    converges to a computable curve: warns, and returns parameters of NaN.

    Raises:
        LabError: input that ``checked`` refuses.
    """
    x, y = checked(pred, mos)
    problem = "the curve needs 5 photographs and an input that varies"
    if len(x) >= 5 and varied(x, y):
        # Quartiles, which are robust against outliers.
        lower, shift, upper = np.quantile(x, (0.25, 0.5, 0.75))
        spread, level, size = (upper - lower) or x.std(), y.mean(), y.std()
        fit = _best_fit((x - shift) / spread, (y - level) / size)
        if fit is not None:
            high, low, centre, scale = fit * (size, size, spread, spread)
            values = (level + high, level + low, shift + centre, scale)
            return Logistic(*(float(value) for value in values))
        problem = "no start of the search converged"
    warnings.warn(f"no logistic fitted to {len(x)} scores: {problem}", RuntimeWarning, stacklevel=2)
    return Logistic(*[float("nan")] * 4)


def checked(pred: Vector, mos: Vector) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays of shape (n,).

    Raises:
        LabError: an input that is not numeric, 1-D and finite, or unequal lengths.
    """
    arrays = {"pred": float64(pred, "pred"), "mos": float64(mos, "mos")}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise LabError(f"{name} has shape {array.shape}; give one number per image, (n,).")
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array))[0])
            raise LabError(f"{name} is {array[row]} at row {row}; give finite numbers.")
    x, y = arrays.values()
    if len(x) != len(y):
        raise LabError(f"{len(x)} in pred but {len(y)} in mos; give one of each per image.")
    return x, y


def varied(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a correlation is defined: n >= 3, and neither is constant up to rounding."""
    return len(x) >= 3 and all(v.std() > 1e-13 * np.abs(v).max() for v in (x, y))


def float64(values: Vector, name: str) -> np.ndarray:
    """``values``, also tensors on any device, as an array; LabError with ``name`` if impossible."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise LabError(f"{name} is not a sequence of numbers: {error}.") from error


def _best_fit(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """(high, low, centre, scale) of least squared error; x standardised, y of mean 0.

    Variable projection (Golub & Pereyra 1973): for given centre and scale, high and low have a
    closed form, so only centre and the logarithm of scale are searched.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    # Neither ``@`` here nor L-BFGS-B below, which use BLAS: on a busy machine its threads wait for
    # each other far longer than these small sums take.
    def project(p: Point) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        z = (x - p[0]) / np.exp(p[1])
        gate = expit(z)
        centred = gate - gate.mean()
        height = (centred * y).sum() / max((centred * centred).sum(), np.finfo(float).tiny)
        return z, gate, height, height * centred - y

    def loss(p: Point) -> tuple[float, np.ndarray]:
        """Half the mean squared error and its gradient."""
        z, gate, height, residuals = project(p)
        change = height * residuals * gate * (1 - gate) / len(x)
        gradient = [-change.sum() / np.exp(p[1]), -(change * z).sum()]
        return (residuals * residuals).mean() / 2, np.array(gradient)

    centres = np.quantile(x, _CENTRES)
    scales = np.log([*_SCALES, np.ptp(x)])
    starts = [min(((c, s) for c in centres), key=lambda p: loss(p)[0]) for s in scales]
    # A curve with ten times the range of the scores is a straight line.
    bounds = [(x.min() - 2, x.max() + 2), (np.log(1e-3), np.log(10 * np.ptp(x)))]
    options = {"ftol": 1e-12, "gtol": 1e-9, "maxfun": 500}
    fits = [
        minimize(loss, p, method="TNC", jac=True, bounds=bounds, options=options) for p in starts
    ]

    def curve(p: Point) -> np.ndarray:
        _, gate, height, _ = project(p)
        low = -height * gate.mean()
        return np.array([low + height, low, p[0], np.exp(p[1])])

    # A spike at one end can be fitted by the tail of a curve too high for float64.
    curves = [(fit.fun, curve(fit.x)) for fit in fits if fit.success]
    curves = [(error, found) for error, found in curves if np.abs(found[:2]).max() < _HIGHEST]
    return min(curves, key=lambda one: one[0])[1] if curves else None
