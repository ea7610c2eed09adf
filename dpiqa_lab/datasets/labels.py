"""Label files as their authors released them, read into one table.

Every reader takes the dataset's folder and gives a DataFrame with ``name`` (the photograph,
relative to the folder) and ``mos_raw`` (the released score), and where the release has them
``split`` (train / val / test), ``group`` (what must not be in two parts) and ``subset`` (reported
apart).
"""

from pathlib import Path

import pandas as pd

from ..core.errors import LabError, listing


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file with the separator guessed, every value as text, unnamed columns dropped.

    Raises:
        LabError: the file is missing, empty or no table.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such label file.")
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, encoding="utf-8-sig")
    except (UnicodeDecodeError, ValueError, pd.errors.ParserError) as error:
        raise LabError(f"{path}: not a readable UTF-8 table ({error}).") from error
    table.columns = [str(column).strip() for column in table.columns]
    return table[[column for column in table.columns if not column.startswith("Unnamed")]]


def pick(table: pd.DataFrame, path: Path, **columns: str) -> pd.DataFrame:
    """The wanted columns of ``table``, renamed: ``pick(table, path, name="image_name")``.

    Raises:
        LabError: a column is not there; the message lists those that are.
    """
    absent = [column for column in columns.values() if column not in table.columns]
    if absent:
        raise LabError(
            f"{path}: no column {', '.join(map(repr, absent))}; "
            f"its columns are {', '.join(map(repr, table.columns))}."
        )
    return table[list(columns.values())].set_axis(list(columns), axis=1).copy()


def numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """``table`` with ``mos_raw`` as float.

    Raises:
        LabError: scores that are missing or no finite number, with their rows.
    """
    values = pd.to_numeric(table["mos_raw"], errors="coerce").astype(float)
    bad = table[~values.between(-1e12, 1e12)]
    if len(bad):
        rows = [f"row {i + 2}: {row['name']}: {row['mos_raw']}" for i, row in bad.iterrows()]
        raise LabError(
            f"{path}: {len(bad)} scores that are no finite number. Mend or remove these rows:\n"
            + listing(rows)
        )
    return table.assign(mos_raw=values)


def demo(root: Path) -> pd.DataFrame:
    """The generated set: name, mos, scene and split, one file."""
    path = root / "labels.csv"
    table = pick(read_table(path), path, name="name", mos_raw="mos", group="scene", split="split")
    table["name"] = "images/" + table["name"] + ".png"
    return numbers(table, path)


def biq2021(root: Path) -> pd.DataFrame:
    """Two files, one a part; the subset is the first word of a photograph's name."""
    parts = []
    for split in ("train", "test"):
        path = root / f"{split.title()} (Images and MOS).csv"
        part = numbers(pick(read_table(path), path, name="Image Name", mos_raw="MOS"), path)
        parts.append(part.assign(split=split))
    table = pd.concat(parts, ignore_index=True)
    table["subset"] = table["name"].str.split().str[0]
    table["name"] = "Images/" + table["name"]
    return table


def koniq(root: Path) -> pd.DataFrame:
    """``koniq10k_distributions_sets.csv`` with the official parts."""
    path = root / "koniq10k_distributions_sets.csv"
    table = pick(read_table(path), path, name="image_name", mos_raw="MOS", split="set")
    table["split"] = table["split"].replace({"training": "train", "validation": "val"})
    folder = next((name for name in ("1024x768", "512x384") if (root / name).is_dir()), "1024x768")
    table["name"] = folder + "/" + table["name"]
    return numbers(table, path)


def folder(
    root: Path,
    labels: str | None = None,
    name_column: str = "name",
    mos_column: str = "mos",
    group_column: str | None = None,
) -> pd.DataFrame:
    """Any folder of photographs with a CSV; its optional ``split`` column is taken as official."""
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
    return numbers(pick(table, path, **columns), path)
