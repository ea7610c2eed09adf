"""Correlations of channels with MOS, similarity between layers, and 2-D maps of images."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from .features import Features


def channel_correlations(
    features: Features, timestep: int | None = None, pooling: str = "mean"
) -> pd.DataFrame:
    """Spearman's correlation of each channel with MOS over all images, signed.

    ``q`` is the p-value after Benjamini & Hochberg (1995), over all channels requested:
    about 5% of those with q below 0.05 are expected to be false. p is two-sided, by Student's t;
    it assumes independent images, which versions of one scene are not.

    Args:
        timestep: ``None``: all that were extracted.

    Returns:
        A row a channel: timestep, tap, channel, srcc, p, q. A constant channel has srcc NaN, p 1.
    """
    from scipy.stats import false_discovery_control

    timesteps = features.timesteps if timestep is None else [timestep]
    mos = features.table["mos"].to_numpy(float)
    tables = []
    for t in timesteps:
        for tap in features.taps:
            rho = spearman_columns(features[t, tap, pooling].numpy(), mos)
            columns = {"timestep": t, "tap": tap, "channel": np.arange(len(rho)), "srcc": rho}
            tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    p = correlation_p(table["srcc"].to_numpy(), len(mos))
    return table.assign(p=p, q=false_discovery_control(p))


def spearman_columns(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each column of x (n, k) with y (n,): (k,), NaN for constants."""
    from scipy.stats import rankdata

    ranks = rankdata(x, axis=0)
    return (standardised(ranks).T @ standardised(rankdata(y)[:, None]))[:, 0] / len(y)


def correlation_p(rho: np.ndarray, n: int) -> np.ndarray:
    """Two-sided p of correlations over n images, by Student's t; 1 where undefined."""
    from scipy.stats import t as student

    rho = np.clip(rho, -1, 1)
    if n < 3:
        return np.ones_like(rho)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(rho) * np.sqrt((n - 2) / (1 - rho**2))
    return np.nan_to_num(2 * student.sf(statistic, n - 2), nan=1.0)


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of x (n, k) and y (n, l), in [0, 1] (Kornblith et al. 2019).

    1 where x and y differ only by rotation and scale. With fewer images than channels it is
    above 0 even for unrelated features. NaN where either is constant.
    """
    x, y = (np.asarray(a, float) - np.mean(a, axis=0, dtype=float) for a in (x, y))
    if max(x.shape[1], y.shape[1]) > len(x):  # the smaller Gram matrices are those over images
        x, y = x @ x.T, y @ y.T
        both, own, other = np.vdot(x, y), np.vdot(x, x), np.vdot(y, y)
    else:
        both, own, other = (np.vdot(c, c) for c in (x.T @ y, x.T @ x, y.T @ y))
    norm = np.sqrt(own * other)
    return float(both / norm) if norm > 0 else float("nan")


def mean_pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Mean absolute Pearson correlation of the channels of x (n, k) with those of y (n, l).

    Constant channels are ignored; NaN if all are constant.
    """
    a, b = standardised(np.asarray(x, float)), standardised(np.asarray(y, float))
    pairs = np.abs(a.T @ b) / len(a)
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")


def layer_similarity(
    features: Features,
    timestep: int,
    pooling: str = "mean",
    measure: Callable[[np.ndarray, np.ndarray], float] = linear_cka,
) -> pd.DataFrame:
    """``linear_cka`` or ``mean_pearson`` between all taps at a timestep: a square table by tap."""
    x = [features[timestep, tap, pooling].numpy() for tap in features.taps]
    values = np.full((len(x), len(x)), np.nan)
    for i in range(len(x)):
        for j in range(i, len(x)):
            values[i, j] = values[j, i] = measure(x[i], x[j])
    return pd.DataFrame(values, index=features.taps, columns=features.taps)


def top_bottom_images(
    features: Features, timestep: int, tap: str, channel: int, pooling: str = "mean", n: int = 4
) -> pd.DataFrame:
    """The n images with the highest values of a channel, then the n with the lowest.

    Returns:
        Rows of the dataset's table, with the channel's value as ``score``.
    """
    values = features[timestep, tap, pooling][:, channel].numpy()
    order = np.argsort(-values, kind="stable")
    n = min(n, len(order) // 2)
    chosen = [*order[:n], *order[len(order) - n :]]
    return features.table.assign(score=values).iloc[chosen]


def standardised(x: np.ndarray) -> np.ndarray:
    """Columns of x (n, k) with mean 0 and standard deviation 1; constant columns become NaN."""
    centred = x - x.mean(0)
    deviation = centred.std(0)
    constant = deviation <= 1e-9 * np.abs(x).max(0, initial=0)
    return centred / np.where(constant, np.nan, deviation)


def photograph_map(x: np.ndarray, table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Two principal components and t-SNE of standardised features x (n, k).

    t-SNE (van der Maaten & Hinton 2008) starts from the principal components and uses the
    first 50; distances between separate groups have no meaning in it.

    Returns:
        The table's name, path and mos, with pca_x, pca_y, tsne_x, tsne_y; t-SNE is NaN for fewer
        than five photographs.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    x = StandardScaler().fit_transform(x)
    components = PCA(min(50, *x.shape), random_state=seed).fit_transform(x)
    near = np.full((len(x), 2), np.nan)
    if len(x) >= 5:
        perplexity = min(30.0, (len(x) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        near = model.fit_transform(components)
    places = {"pca_x": components[:, 0], "pca_y": components[:, 1]}
    return table[["name", "path", "mos"]].assign(**places, tsne_x=near[:, 0], tsne_y=near[:, 1])
