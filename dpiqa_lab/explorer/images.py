"""Single photographs in the explorer: their data, neighbours, activation maps and damage."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..datasets.distortions import distort, to_floats, to_pillow
from ..datasets.images import read_image, to_tensor
from ..models.image_scorer import ImageScorer
from ..probing.activations import image_maps
from ..probing.correlations import standardised
from ..probing.features import Features, pool
from ..probing.probe import concat_features
from ..training.load_model import load_model
from .explorer import Explorer

_MAX_MAPS = 64  # in memory


class Damaged(NamedTuple):
    """A photograph before and after damage, at its own size: pictures and scores.

    ``probe``: the probe's scores; ``model``: those of the chosen run, else ``None``.
    ``channels``: label, before, after and shift, in standard deviations over the dataset (0 for a
    feature that is constant there), largest first.
    """

    pictures: tuple[Image.Image, Image.Image]
    probe: tuple[float, float]
    model: tuple[float, float] | None
    channels: pd.DataFrame


class ExplorerImages:
    """Single photographs of an explorer's view; a pass processes one photograph."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self._maps: dict[tuple, torch.Tensor] = {}
        self._model: tuple[str, ImageScorer] | None = None

    def card(self, name: str) -> dict:
        """A row of the dataset's table, with score (None outside test), column and feature."""
        explorer = self.explorer
        at, column = explorer.position(name), explorer.channel()
        scores = explorer.predictions().set_index("name")["score"]
        return {
            **explorer.dataset.table.iloc[at].to_dict(),
            "score": float(scores[name]) if name in scores else None,
            "column": str(explorer.column_names()[column]),
            "feature": float(explorer.columns()[at, column]),
        }

    def neighbours(self, name: str, n: int = 6) -> pd.DataFrame:
        """The ``n`` nearest in standardised features: name, path, mos, distance; nearest first.

        Distance: root mean squared difference, about 1.4 for two random photographs.
        """
        z = np.nan_to_num(standardised(self.explorer.columns()))  # of constant features
        here = self.explorer.position(name)
        distance = np.sqrt(((z - z[here]) ** 2).mean(1))
        order = [i for i in np.argsort(distance, kind="stable") if i != here][:n]
        table = self.explorer.dataset.table.iloc[order]
        return table[["name", "path", "mos"]].assign(distance=distance[order])

    def activation(self, name: str, remembered: bool = False) -> np.ndarray | None:
        """Activation map (h, w) of the view's tap, of several the last.

        The map of the channel where one is plotted (with its tap), else the root mean square over
        channels. Takes one pass; with ``remembered`` it is None where no pass was made yet.
        """
        explorer = self.explorer
        timestep, taps, _ = explorer.place()
        tap, channel = taps[-1], None
        if explorer.config.plot == "channel":
            column = explorer.column_names()[explorer.channel()]
            tap, channel = column.tap, column.channel
        key = explorer.store, name, timestep, tap
        if key not in self._maps:
            if remembered:
                return None
            while len(self._maps) >= _MAX_MAPS:
                self._maps.pop(next(iter(self._maps)))
            path = explorer.dataset.table["path"][explorer.position(name)]
            self._maps[key] = self._pass(name, path, [tap])[tap][0]
        maps = self._maps[key]
        return (maps.square().mean(0).sqrt() if channel is None else maps[channel]).numpy()

    def damaged(self, name: str, kind: str, strength: float) -> Damaged:
        """``distort`` applied to a photograph at its own resolution: one pass.

        Backbone and model then resize the damaged photograph to their own sizes, so damage of a
        few pixels shows less in a large photograph. At strength 0 the features are the cached
        ones, and the model's score is that of ``load_model(config.model).score`` for the file.
        """
        explorer, config = self.explorer, self.explorer.config
        at = explorer.position(name)
        path = explorer.dataset.table["path"][at]
        before = Image.fromarray(read_image(path))
        after = to_pillow(distort(to_floats(before), kind, strength))
        timestep, taps, _ = explorer.place()
        maps = self._pass(name, after, list(taps))
        pooled = Features({(timestep, tap): pool(maps[tap]) for tap in taps}, pd.DataFrame([{}]))
        x = explorer.columns()
        rows = np.stack([x[at], concat_features(pooled, poolings=config.poolings)[0]])
        varies = np.isfinite(standardised(x)).all(0)
        spread = np.where(varies, x.std(0), np.inf)
        channels = pd.DataFrame(
            {
                "label": [str(column) for column in explorer.column_names()],
                "before": rows[0],
                "after": rows[1],
                "shift": (rows[1] - rows[0]) / spread,
            }
        )
        old, new = map(float, explorer.fitted().predict(rows))
        return Damaged(
            pictures=(before, after),
            probe=(old, new),
            model=self._scores(config.model, before, after) if config.model else None,
            channels=channels.sort_values("shift", key=abs, ascending=False, ignore_index=True),
        )

    def _scores(self, run: str, *pictures: Image.Image) -> tuple[float, float]:
        if self._model is None or self._model[0] != run:
            loaded = load_model(run)
            assert isinstance(loaded, ImageScorer)
            self._model = run, loaded  # one at a time, as they are large
        model = self._model[1]
        before, after = map(float, model.score(pictures, device=self.explorer.config.device))
        return before, after

    def _pass(
        self, name: str, source: Path | Image.Image, taps: list[str]
    ) -> dict[str, torch.Tensor]:
        """Maps of a version of a photograph, with that photograph's noise."""
        explorer, config = self.explorer, self.explorer.config
        return image_maps(
            explorer.backbone,
            to_tensor(read_image(source, config.image_size))[None],
            [explorer.dataset.table["hash"][explorer.position(name)]],
            explorer.timestep,
            taps,
            config.prompts,
            config.noise_seed,
            compute=explorer.compute_on,
        )
