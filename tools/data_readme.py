"""``data/README.md``, written from the specs: ``python -m tools.data_readme > …``."""

from dpiqa_lab.datasets.scale import Scale
from dpiqa_lab.datasets.specs import SPECS, DatasetSpec

_HEAD = """\
# Data

Each dataset is a folder here, or anywhere else named by `data_root`. Photographs and label files
belong to their authors and are not part of this repository; `data/tiny_prior/` (the embedded
backbone, with its [model card](tiny_prior/README.md)) is.

`python -m dpiqa_lab check <name> --root <folder>` says whether a folder is complete and sound:
files missing, unreadable, copied or misplaced, impossible labels, splits that overlap; and what
a training on it needs of disk and memory (`--time`: how long it takes on this machine). In a
notebook: `lab.check_dataset(...)`.

| name | what | photographs | score | official splits |
|---|---|---|---|---|
"""

_TAIL = """\
## Scores and splits

Scores are mapped to [0, 1], higher is better, by the ends of the scale above (not by those of the
release). Official splits are used where there are any; where one has no validation split, a tenth
of train is taken, by seed. Otherwise the splits are 70/10/20 by seed, and of datasets made from
reference pictures every reference with all its versions is in one split. `split_scheme="random"`
with `split_seed`, or numbered, `split_scheme="random-3"`, or `split_scheme="my.csv"` (columns
`name`, `split`) select others. Every run records it in its `data.csv`. Equal file content in two
splits gives a warning.

Near copies, that is photographs of one scene (resized, compressed, brightened, blurred or shot
again from nearly the same place), are found by their thumbnails when a dataset is loaded for the
first time. They share a `group`: random splits keep them in one split, and intervals resample them
together. Official splits stay as they are; `check` and every run's notes say how many test
photographs have a near copy in train. Mirrored, turned and closely cropped copies are not found.

## Your own photographs

```
photos/
  scores.csv        name,mos
  IMG_0001.jpg
  holiday/IMG_0002.jpg
```

```
python -m dpiqa_lab check folder --root photos -p mos_range 1,5
papermill notebooks/03_train.ipynb out.ipynb \\
  -p dataset folder -p data_root photos -p mos_range 1,5
```

The columns of the CSV may be separated by commas, semicolons, tabs, bars or spaces; decimals need a
point. `mos_range` is the whole scale that people could choose from. If your columns have other
names, give them: `-p name_column file -p mos_column score`. `labels` is the CSV's name where the
folder has several, `group_column` what must stay in one split (several pictures of one scene), and
`lower_better` is True where a lower score is better.
"""


def data_readme() -> str:
    """The whole file as text."""
    rows = [_row(spec) for spec in SPECS.values()]
    sections = [_section(spec) for spec in SPECS.values() if spec.citation]
    return _HEAD + "\n".join(rows) + "\n\n" + "\n".join(sections) + "\n" + _TAIL


def _row(spec: DatasetSpec) -> str:
    count = f"{spec.count:,}" if spec.count else "any"
    for option, n in spec.option_counts.items():
        count += f" ({n:,} with `{option}`)"
    scale = Scale(*spec.mos_range, spec.lower_better, spec.name)
    score = scale.ends
    if spec.observed:
        score += f" (released: {spec.observed[0]:g} to {spec.observed[1]:g})"
    score += f", {scale.better}"
    if spec.name == "folder":
        score = f"{score}; or as `mos_range` and `lower_better` say"
    if spec.note:
        score = f"**computed, no human opinion**, {score}"
    parts = spec.parts or (f"none; {spec.references} references" if spec.references else "none")
    return f"| `{spec.name}` | {spec.title} | {count} | {score} | {parts} |"


def _section(spec: DatasetSpec) -> str:
    return (
        f"### {spec.title}\n\n"
        f"Under `data/{spec.name}/`:\n\n```\n{spec.tree}\n```\n\n"
        f"- From: {spec.source}.\n"
        f"- Page: <{spec.homepage}>\n"
        f"- Licence: {spec.licence}.\n"
        f"- Cite: {spec.citation}.\n"
    )


if __name__ == "__main__":
    print(data_readme(), end="")
