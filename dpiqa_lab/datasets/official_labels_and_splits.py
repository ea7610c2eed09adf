"""Label files as their authors released them, read into one table.

Every reader takes the dataset's folder and returns a DataFrame with ``name`` (the image, relative
to the folder), ``mos_raw`` (the released score, unchanged) and ``where`` (file and row), and if
released ``split`` (train / val / test), ``group`` (images that must stay in one split) and
``subset`` (reported separately). ``validation_checks`` checks the values.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from ..core.errors import LabError, listing, series

# Images used to train LIVE Challenge's subjects: rows 0 to 6 of its release.
CLIVE_TRAINING = tuple(f"t{i}.bmp" for i in range(1, 8))


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file, with any separator, or an Excel sheet: values as text, no unnamed columns.

    Empty rows are left out. A row's index is its line in the file minus 2.

    Raises:
        LabError: the file is missing, empty, no table or not in UTF-8.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such label file.")
    # An image may be named NA or null.
    options = {"dtype": str, "keep_default_na": False, "na_values": [""]}
    sheet = path.suffix.lower() == ".xlsx"
    try:
        if sheet:
            table = pd.read_excel(path, engine="openpyxl", **options)
        else:
            options |= {"encoding": "utf-8-sig", "skip_blank_lines": False}
            table = pd.read_csv(path, sep=find_separator(path), **options)
    except LabError:
        raise
    except UnicodeDecodeError as error:
        raise _undecodable(path) from error
    except Exception as error:  # a broken Excel sheet raises many types
        cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LabError(f"{path}: not a readable table ({cause}).") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise LabError(
            f"{path}: its rows have more values than its first line has names; was it saved with "
            "decimal commas, or with another separator?"
        )
    table.columns = [str(column).strip() for column in table.columns]
    if table.columns.duplicated().any():
        twice = series(map(repr, table.columns[table.columns.duplicated()]), 20)
        raise LabError(f"{path}: two columns are named {twice}; rename one.")
    if not sheet:
        breaks = sum((table[column].str.count("\n").fillna(0) for column in table), 0)
        table.index = table.index + np.concatenate([[0], np.cumsum(breaks)[:-1]]).astype(int)
    table = table.dropna(how="all")
    return table[[column for column in table.columns if not column.startswith("Unnamed")]]


def find_separator(path: Path) -> str:
    """The separator of a CSV file's first line: comma, semicolon, tab, bar or space.

    Raises:
        LabError: the file is no UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
    except UnicodeDecodeError as error:
        raise _undecodable(path) from error
    # Space is the last resort, as column names contain spaces.
    return max(",;\t|", key=header.count) if any(c in header for c in ",;\t|") else " "


def pick(table: pd.DataFrame, path: Path, **columns: str) -> pd.DataFrame:
    """Columns of ``table``, renamed: ``pick(table, path, name="image_name")``.

    A column ``where`` is added: the file's name and the row, from 1.

    Raises:
        LabError: a missing column; the message lists the available ones.
    """
    absent = [column for column in columns.values() if column not in table.columns]
    if absent:
        raise LabError(
            f"{path}: no column {', '.join(map(repr, absent))}; "
            f"its columns are {series(map(repr, table.columns), 20)}."
        )
    picked = table[list(columns.values())].set_axis(list(columns), axis=1)
    return picked.assign(where=[f"{path.name} row {i + 2}" for i in table.index])


def demo(root: Path) -> pd.DataFrame:
    """The generated set: name, mos, scene and split, one file."""
    path = root / "labels.csv"
    table = pick(read_table(path), path, name="name", mos_raw="mos", group="scene", split="split")
    table["name"] = "images/" + table["name"] + ".png"
    return table


def biq2021(root: Path) -> pd.DataFrame:
    """One file per split; the subset is the first word of an image's name."""
    tables = []
    for split in ("train", "test"):
        path = root / f"{split.title()} (Images and MOS).csv"
        rows = pick(read_table(path), path, name="Image Name", mos_raw="MOS")
        tables.append(rows.assign(split=split))
    table = pd.concat(tables, ignore_index=True)
    table["subset"] = table["name"].str.split().str[0]
    table["name"] = "Images/" + table["name"]
    return table


def koniq(root: Path) -> pd.DataFrame:
    """Either release: ``…_distributions_sets.csv`` with the official split, or
    ``…_scores_and_distributions.csv`` without, whose ``MOS_zscore`` is on 0 to 100.
    """
    path = root / "koniq10k_distributions_sets.csv"
    other = root / "koniq10k_scores_and_distributions.csv"
    if path.is_file() or not other.is_file():
        table = pick(read_table(path), path, name="image_name", mos_raw="MOS", split="set")
        table["split"] = table["split"].replace({"training": "train", "validation": "val"})
    else:
        table = pick(read_table(other), other, name="image_name", mos_raw="MOS_zscore")
    folder = next((name for name in ("1024x768", "512x384") if (root / name).is_dir()), "1024x768")
    table["name"] = folder + "/" + table["name"]
    return table


def clive(root: Path, keep_training_images: bool = False) -> pd.DataFrame:
    """MATLAB files, names and scores in the same order.

    ``keep_training_images`` keeps the 7 used to train the subjects, as DP-IQA's authors do.
    """
    names_path = root / "Data" / "AllImages_release.mat"
    mos_path = root / "Data" / "AllMOS_release.mat"
    names = [str(np.squeeze(cell)) for cell in _matlab(names_path, "AllImages_release")]
    scores = _matlab(mos_path, "AllMOS_release")
    if len(names) != len(scores):
        raise LabError(
            f"{names_path} has {len(names)} names, {mos_path} {len(scores)} scores: they are "
            "from different releases."
        )
    table = pd.DataFrame({"name": names, "mos_raw": scores})
    table["where"] = [f"{mos_path.name} entry {i + 1}" for i in table.index]
    training = table["name"].isin(CLIVE_TRAINING)
    table["name"] = np.where(training, "Images/trainingImages/", "Images/") + table["name"]
    return table if keep_training_images else table[~training].reset_index(drop=True)


def livefb(root: Path) -> pd.DataFrame:
    """Whole images; ``labels640.csv`` is the official test split, the rest is for training."""
    path, test = root / "labels_image.csv", root / "labels640.csv"
    table = pick(read_table(path), path, name="name", mos_raw="mos")
    tested = table["name"].isin(pick(read_table(test), test, name="name_image")["name"])
    return table.assign(split=np.where(tested, "test", "train"))


def spaq(root: Path) -> pd.DataFrame:
    """The Excel sheet of scores, in the folder or its ``Annotations/``."""
    name = "MOS and Image attribute scores.xlsx"
    path = next((p for p in (root / name, root / "Annotations" / name) if p.is_file()), root / name)
    table = pick(read_table(path), path, name="Image name", mos_raw="MOS")
    table["name"] = "TestImage/" + table["name"]
    return table


def kadid10k(root: Path) -> pd.DataFrame:
    """``dmos.csv``; groups are the reference images."""
    path = root / "dmos.csv"
    table = pick(read_table(path), path, name="dist_img", mos_raw="dmos", group="ref_img")
    table["name"] = "images/" + table["name"]
    return table


def tid2013(root: Path) -> pd.DataFrame:
    """``mos_with_names.txt``: per line score and name, whose first component is the reference."""
    path = root / "mos_with_names.txt"
    if not path.is_file():
        raise LabError(f"{path}: no such label file.")
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = [(i, line.split()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    odd = [f"line {i}: {' '.join(words)}" for i, words in rows if len(words) != 2]
    if odd:
        raise LabError(
            f"{path}: {len(odd)} lines that are not a score, a space and a name:\n{listing(odd)}"
        )
    table = pd.DataFrame([words for _, words in rows], columns=["mos_raw", "name"])
    table["where"] = [f"{path.name} row {i}" for i, _ in rows]
    table["group"] = table["name"].str.lower().str.split("_").str[0]
    table["name"] = "distorted_images/" + table["name"]
    return table


def folder(
    root: Path,
    labels: str | None = None,
    name_column: str = "name",
    mos_column: str = "mos",
    group_column: str | None = None,
) -> pd.DataFrame:
    """Any folder of images with a CSV; its optional ``split`` column is the official split."""
    if labels is None:
        files = sorted(root.glob("*.csv"))
        if len(files) != 1:
            raise LabError(
                f"{root} holds {len(files)} CSV files; name the one with the scores by labels=."
            )
        path = files[0]
    else:
        path = Path(labels) if Path(labels).is_absolute() else root / labels
    table = read_table(path)
    columns = {"name": name_column, "mos_raw": mos_column}
    if group_column:
        columns["group"] = group_column
    if "split" in table.columns:
        columns["split"] = "split"
    try:
        return pick(table, path, **columns)
    except LabError as error:
        raise LabError(f"{error} Name yours by name_column, mos_column and group_column.") from None


def _matlab(path: Path, key: str) -> np.ndarray:
    """A variable of a MATLAB file, flattened."""
    if not path.is_file():
        raise LabError(f"{path}: no such label file.")
    try:
        return scipy.io.loadmat(path)[key].ravel()
    except KeyError:
        raise LabError(f"{path}: holds no variable {key!r}.") from None
    except Exception as error:  # a broken file raises many types
        cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LabError(f"{path}: not a readable MATLAB file ({cause}).") from error


def _undecodable(path: Path) -> LabError:
    """Error that names the first row that is not UTF-8."""
    row, line = next(
        (row, line)
        for row, line in enumerate(path.read_bytes().split(b"\n"), 1)
        if line != line.decode("utf-8", "ignore").encode()
    )
    return LabError(
        f"{path}: row {row} is not in UTF-8: {line[:60]!r}. Save the file again as UTF-8 (in "
        "Excel: CSV UTF-8)."
    )
