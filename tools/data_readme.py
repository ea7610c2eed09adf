"""``data/README.md``, written from the specs: ``python -m tools.data_readme > …``."""

from dpiqa_lab.datasets.scale import Scale
from dpiqa_lab.datasets.specs import SPECS, DatasetSpec

_HEAD = """\
# Data

Each dataset is a folder here, or anywhere else named by `data_root`. Photographs and label files
belong to their authors and are not part of this repository; `data/tiny_prior/` (the embedded
backbone, with its [model card](tiny_prior/README.md)) is.

`python -m dpiqa_lab check <name> --root <folder>` reports whether a folder is complete and valid:
files missing, unreadable, copied or misplaced, invalid labels, overlapping splits; and the disk and
memory that a training on it needs (`--time`: how long it takes on this machine). In a notebook:
`lab.check_dataset(...)`.

| name | dataset | photographs | score | official split |
|---|---|---|---|---|
"""

_TAIL = """\
## Scores and splits

Scores are mapped to [0, 1], higher is better, by the ends of the scale above (not by those of the
release). Official splits are used if available; without val, a tenth of train becomes val, by seed.
Else the split is 70/10/20 by seed; a reference picture and all its versions stay in one split.
`split_scheme="random"` with `split_seed`, or numbered, `split_scheme="random-3"`, or
`split_scheme="my.csv"` (columns `name`, `split`) select another. Every run records its split in
`data.csv`. Equal file content in two splits gives a warning.

Near copies, photographs of one scene (resized, compressed, brightened, blurred or shot
again from nearly the same place), are found by their thumbnails when a dataset is loaded for the
first time. They share a `group`: random splits keep them together, and intervals resample them
together. Official splits stay unchanged; `check` and every run's notes report how many test
photographs have a near copy in train. Mirrored, rotated and tightly cropped copies are not found.

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

The CSV may be separated by commas, semicolons, tabs, bars or spaces; decimals need a point.
`mos_range` is the whole scale that people could choose from. If your columns have other names, give
them: `-p name_column file -p mos_column score`. `labels` is the CSV's name if
the folder has several, `group_column` names groups that must stay in one split (several pictures of
one scene), and `lower_better` is True if a lower score is better.
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
