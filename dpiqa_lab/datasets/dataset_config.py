"""Configuration of a dataset and of how it is read."""

from ..core.config import Configuration, configuration, option
from ..core.paths import user_path
from .dataset import QualityDataset, load_dataset
from .specs import get_spec


@configuration
class ReadingConfig(Configuration):
    """How images and scores are read; ``None``: the dataset's default."""

    split_scheme: str = option("auto", "auto, official, random, random-3, or a CSV file")
    split_seed: int = option(0, "seed of a random split", low=0)
    on_bad_image: str = option(
        "error", "error: list bad images and stop; skip: leave them out", ("error", "skip")
    )
    keep_training_images: bool = option(
        False, "dataset=clive: keep the 7 images used to train its subjects"
    )
    labels: str | None = option(None, "dataset=folder: the CSV with the scores")
    name_column: str = option("name", "dataset=folder: column of file names")
    mos_column: str = option("mos", "dataset=folder: column of scores")
    group_column: str | None = option(
        None, "dataset=folder: column of groups that must stay in one split"
    )
    mos_range: tuple[float, ...] | None = option(None, "ends of the score scale, for example 0,100")
    lower_better: bool | None = option(None, "whether a lower score is better")
    image_size: int | None = option(
        None, "side in pixels of the square to which images are resized", low=1, high=8192
    )


@configuration
class _Which(Configuration):
    """Which dataset."""

    dataset: str = option("demo", "a name from data/README.md, or folder for your own")
    data_root: str | None = option(None, "the dataset's folder; None: data/<dataset>")


@configuration
class DatasetConfig(ReadingConfig, _Which):  # the fields of the last come first
    """A dataset and how it is read; ``None``: the dataset's default."""

    def dataset_defaults(self) -> dict:
        """Values of the fields that are ``None``, and the absolute path of the folder.

        Raises:
            LabError: an unknown dataset.
        """
        spec = get_spec(self.dataset)
        defaults = {
            "mos_range": tuple(map(float, spec.mos_range)),
            "lower_better": spec.lower_better,
            "image_size": spec.image_size,
        }
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        root = self.data_root and str(user_path(self.data_root).resolve())
        return {"data_root": root, **missing}

    def load_dataset(self) -> QualityDataset:
        """The dataset that this configuration describes."""
        return load_dataset(self.dataset, **self.dataset_options())

    def dataset_options(self) -> dict:
        """Arguments of ``load_dataset``."""
        options = {
            "root": self.data_root,
            "split_scheme": self.split_scheme,
            "split_seed": self.split_seed,
            "on_bad_image": self.on_bad_image,
            "mos_range": self.mos_range,
            "lower_better": self.lower_better,
            "image_size": self.image_size,
        }
        if self.dataset == "folder":
            columns = ("labels", "name_column", "mos_column", "group_column")
            options |= {name: getattr(self, name) for name in columns}
        if self.dataset == "clive":
            options["keep_training_images"] = self.keep_training_images
        return options
