import numpy as np

from dpiqa_lab.evaluation.baselines import ridge_on_statistics
from dpiqa_lab.probing.ridge import ALPHAS
from tests.evaluation.test_statistics import Photographs


def test_ridge_on_statistics_of_photographs():
    train, val, test = Photographs(60, 0), Photographs(20, 1), Photographs(20, 2)
    result = ridge_on_statistics(train, val, test, workers=3)
    mos = 5 - 20 * test.strength
    assert result["predictions"].shape == (20,)
    assert np.corrcoef(result["predictions"], mos)[0, 1] > 0.95
    assert result["alpha"] in ALPHAS
