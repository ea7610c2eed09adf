"""Specifications of the supported datasets: content, source and reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..core.errors import unknown
from . import official_labels_and_splits
from .demo import PSEUDO_MOS


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a dataset's release.

    Attributes:
        count: labelled images in the whole release; ``None`` if any number is valid.
        mos_range: ends of the scale of the released scores; scores outside it are errors.
        tree: files and folders expected under the root.
        homepage: its page. source: how to get it. licence: its terms, in short.
        citation: the publication to cite.
        read: from the root folder to a label table, see ``official_labels_and_splits``.
        label_files: columns of each label file; empty if it has no header.
        lower_better: whether a lower released score means better quality.
        observed: lowest and highest score in the release.
        parts: description of the official split; empty if there is none.
        references: number of reference images, whose versions must stay in one split; 0 if the
            images have no references.
        option_counts: ``count`` by reader option, if set.
        image_size: default side in pixels to which images are resized.
        note: remark shown with the scores.
    """

    name: str
    title: str
    count: int | None
    mos_range: tuple[float, float]
    tree: str
    source: str
    licence: str
    read: Callable[..., pd.DataFrame]
    homepage: str = ""
    citation: str = ""
    label_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lower_better: bool = False
    observed: tuple[float, float] | None = None
    parts: str = ""
    references: int = 0
    option_counts: Mapping[str, int] = field(default_factory=dict)
    image_size: int = 512
    note: str = ""

    def where(self, root: Path) -> str:
        """How to get the data and where to put it, as text."""
        tree = "\n".join(f"  {line}" for line in self.tree.splitlines())
        page = f"\n{self.homepage}" if self.homepage else ""
        return f"{self.title}: {self.source}{page}\nExpected under {root}:\n{tree}"

    def expected(self, options: Mapping[str, object]) -> int | None:
        """``count`` with these reader options."""
        counts = [n for name, n in self.option_counts.items() if options.get(name)]
        return counts[0] if counts else self.count


_VOTES = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD")
_PATCHES = tuple(
    f"{what}_patch_{i}"
    for i in (1, 2, 3)
    for what in ("mos", "width", "height", "top", "left", "bottom", "right")
)
_ROWS = [
    DatasetSpec(
        name="demo",
        title="Demo set",
        count=None,
        mos_range=(0, 1),
        tree="images/\nlabels.csv",
        source="made on first use from pictures inside scikit-image and scikit-learn",
        licence="that of the pictures: free to use, see scikit-image and scikit-learn",
        read=official_labels_and_splits.demo,
        label_files={"labels.csv": ("name", "mos", "scene", "damage", "split")},
        parts="train, val and test, by scene",
        image_size=256,
        note=PSEUDO_MOS,
    ),
    DatasetSpec(
        name="koniq",
        title="KonIQ-10k",
        count=10_073,
        mos_range=(0, 100),
        observed=(3.91, 88.39),
        tree="1024x768/10004473376.jpg …  (or 512x384/)\nkoniq10k_distributions_sets.csv\n"
        "  (or koniq10k_scores_and_distributions.csv: its MOS_zscore is read; it has no split)",
        homepage="https://database.mmsp-kn.de/koniq-10k-database.html",
        source="photographs and scores from its page; koniq10k_distributions_sets.csv comes with "
        "the authors' KonIQ code release",
        licence="see its page",
        citation="V. Hosu, H. Lin, T. Sziranyi, D. Saupe. KonIQ-10k: An ecologically valid "
        "database for deep learning of blind image quality assessment. IEEE Transactions on Image "
        "Processing 29, 2020",
        read=official_labels_and_splits.koniq,
        label_files={
            "koniq10k_distributions_sets.csv": (*_VOTES, "set"),
            "koniq10k_scores_and_distributions.csv": (*_VOTES, "MOS_zscore"),
        },
        parts="train 7,058, val 1,000, test 2,015",
    ),
    DatasetSpec(
        name="clive",
        title="LIVE In the Wild Challenge",
        count=1_162,
        option_counts={"keep_training_images": 1_169},
        mos_range=(0, 100),
        observed=(3.42, 92.43),
        tree="Images/100.bmp …\nImages/trainingImages/t1.bmp … t7.bmp\n"
        "Data/AllImages_release.mat\nData/AllMOS_release.mat",
        homepage="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
        source="on request, see its page; the archive is named ChallengeDB_release",
        licence="free to use, copy, modify and distribute with its copyright notice and citation; "
        "see the README inside",
        citation="D. Ghadiyaram, A. C. Bovik. Massive online crowdsourced study of subjective and "
        "objective picture quality. IEEE Transactions on Image Processing 25(1), 2016",
        read=official_labels_and_splits.clive,
        label_files={"Data/AllImages_release.mat": (), "Data/AllMOS_release.mat": ()},
    ),
    DatasetSpec(
        name="livefb",
        title="LIVE-FB (FLIVE)",
        count=39_810,
        mos_range=(0, 100),
        observed=(0, 94.33),
        tree="voc_emotic_ava/…\nblur_dataset/…\nEE371R/…\nlabels_image.csv\nlabels640.csv",
        homepage="https://github.com/niu-haoran/FLIVE_Database",
        source="its database_prep.ipynb fetches the photographs; labels_image.csv and "
        "labels640.csv (the official test split) are in https://github.com/baidut/PaQ-2-PiQ",
        licence="see its pages; the photographs come from VOC, EMOTIC, AVA and a blur dataset",
        citation="Z. Ying, H. Niu, P. Gupta, D. Mahajan, D. Ghadiyaram, A. Bovik. From patches to "
        "pictures (PaQ-2-PiQ): mapping the perceptual space of picture quality. CVPR 2020",
        read=official_labels_and_splits.livefb,
        label_files={
            "labels_image.csv": ("name", "mos"),
            "labels640.csv": (
                "name_patch",
                *_PATCHES,
                *(f"{what}_image" for what in ("mos", "name", "width", "height")),
                *(f"{side}_image" for side in ("top", "left", "bottom", "right")),
            ),
        },
        parts="train 37,983, test 1,827",
    ),
    DatasetSpec(
        name="spaq",
        title="SPAQ",
        count=11_125,
        mos_range=(0, 100),
        observed=(2, 96),
        tree="TestImage/00001.jpg …\nMOS and Image attribute scores.xlsx  (or in Annotations/)",
        homepage="https://github.com/h4nwei/SPAQ",
        source="the links are on its page; photographs are large: shrinking their short side to "
        "512 pixels first saves disk and time",
        licence="see its page",
        citation="Y. Fang, H. Zhu, Y. Zeng, K. Ma, Z. Wang. Perceptual quality assessment of "
        "smartphone photography. CVPR 2020",
        read=official_labels_and_splits.spaq,
        label_files={
            f"{folder}MOS and Image attribute scores.xlsx": (
                "Image name",
                "MOS",
                "Brightness",
                "Colorfulness",
                "Contrast",
                "Noisiness",
                "Sharpness",
            )
            for folder in ("", "Annotations/")
        },
    ),
    DatasetSpec(
        name="biq2021",
        title="BIQ2021",
        count=12_000,
        mos_range=(0, 1),
        tree="Images/ss01 (1).jpg …\nTrain (Images and MOS).csv\nTest (Images and MOS).csv",
        homepage="https://github.com/nisarahmedrana/BIQ2021",
        source="git clone https://github.com/nisarahmedrana/BIQ2021 (424 MB)",
        licence="see its repository",
        citation="N. Ahmed, S. Asif. BIQ2021: a large-scale blind image quality assessment "
        "database. Journal of Electronic Imaging 31(5), 2022",
        read=official_labels_and_splits.biq2021,
        label_files={
            f"{split} (Images and MOS).csv": ("Image Name", "MOS") for split in ("Train", "Test")
        },
        parts="train 10,000, test 2,000",
    ),
    DatasetSpec(
        name="kadid10k",
        title="KADID-10k",
        count=10_125,
        mos_range=(1, 5),
        observed=(1, 4.93),
        references=81,
        tree="images/I01_01_01.png …\ndmos.csv",
        homepage="https://database.mmsp-kn.de/kadid-10k-database.html",
        source="kadid10k.zip (about 3 GB) from its page",
        licence="see its page",
        citation="H. Lin, V. Hosu, D. Saupe. KADID-10k: a large-scale artificially distorted IQA "
        "database. QoMEX 2019",
        read=official_labels_and_splits.kadid10k,
        label_files={"dmos.csv": ("dist_img", "ref_img", "dmos", "var")},
    ),
    DatasetSpec(
        name="tid2013",
        title="TID2013",
        count=3_000,
        mos_range=(0, 9),
        observed=(0.24, 7.21),
        references=25,
        tree="distorted_images/I01_01_1.bmp …\nmos_with_names.txt",
        homepage="http://www.ponomarenko.info/tid2013.htm",
        source="tid2013.rar (about 900 MB) from its page",
        licence="see its page",
        citation="N. Ponomarenko et al. Image database TID2013: peculiarities, results and "
        "perspectives. Signal Processing: Image Communication 30, 2015",
        read=official_labels_and_splits.tid2013,
        label_files={"mos_with_names.txt": ()},
    ),
    DatasetSpec(
        name="folder",
        title="Your own folder",
        count=None,
        mos_range=(0, 100),
        tree="photographs, in sub-folders or not\none CSV with a column of names and one of scores",
        source="any folder of photographs with a CSV of scores; "
        "name_column, mos_column, mos_range and lower_better describe it",
        licence="yours",
        read=official_labels_and_splits.folder,
        parts="its column split, where it has one",
    ),
]
SPECS = {spec.name: spec for spec in _ROWS}


def get_spec(name: str) -> DatasetSpec:
    """The specification of a dataset.

    Raises:
        LabError: an unknown name; the message suggests the nearest.
    """
    if name not in SPECS:
        raise unknown("dataset", name, SPECS)
    return SPECS[name]
