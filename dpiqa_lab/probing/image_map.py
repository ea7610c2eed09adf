"""Photographs laid out in two dimensions by what their features have in common."""

import numpy as np
import pandas as pd


def photograph_map(x: np.ndarray, table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Two principal components, and t-SNE, of standardised features x (n, k).

    t-SNE (van der Maaten & Hinton 2008) starts from the principal components, of which it sees the
    first 50; distances between far apart groups mean nothing in it.

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
