"""The card of a classifier that was trained: what it learned from, how, how well, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from ..show.html import versions
from .classes import mixture_of
from .recipe import Recipe
from .training_data import TrainingData

_CARD = """\
# Model card: {name}

Segments {classes}. For research; not for diagnosis.{caveat}

```sh
hsn-v1 segment IMAGE --model {model} --mpp MPP
```

| | |
|---|---|
{facts}

## Scores

Of patches that were not trained on, but by which the best epoch and the thresholds were chosen. Scores of masks are
what counts: `hsn-v1 evaluate --baselines`, on images of other cases.

| {header} |
|{rule}|
{scores}

Written by `hsn-v1 train`, which writes it anew. What everyone must know goes into `caveat` of {name}.toml. CRF:
`hsn-v1 tune-crf`.
"""


def model_card(
    name: str, data: TrainingData, recipe: Recipe, rows: list[dict], sources: Mapping[str, str], epochs: int
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    name : str
        Name of the classifier.
    data : TrainingData
        What it was trained and judged on.
    recipe : Recipe
        How it was trained.
    rows : list of dict
        Figures of each class; see `validation_report.classification_report`.
    sources : mapping of str to str
        Where the patches and their labels are from, and the command, by what these are called.
    epochs : int
        Number of epochs.
    """
    labels, present = data.labels, data.train.targets > 0
    numbers = [f"{code} {count}" for code, count in zip(labels.codes, present.sum(axis=0), strict=True) if count]
    judged = [f"{row['class']} {row['patches']}" for row in rows]
    settings = {**asdict(recipe), "epochs": "none: one layer is fitted" if recipe.frozen else epochs}
    facts = {
        "trained on": f"{len(data.train)} patches: {', '.join(numbers)}",
        "validated on": f"{len(data.judged)} patches: {', '.join(judged)}",
        **sources,
        "purity": f"{mixture_of(labels.codes, present, labels)}; {present.sum(axis=1).mean():.2f} classes in a patch",
        "scale": f"{labels.mpp:g} microns per pixel, tiles of {recipe.tile} px in training",
        "settings": ", ".join(f"{key} {value}" for key, value in settings.items()),
        **versions(),
    }
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row.values()] for row in rows]
    header = list(rows[0]) if rows else ["class"]
    return _CARD.format(
        name=name,
        model=f'"{name}"' if " " in name else name,
        classes=", ".join([*labels.outputs.values()][:40]),
        caveat=f" {labels.caveat}" if labels.caveat else "",
        facts="\n".join(f"| {key} | {_cell(value)} |" for key, value in facts.items()),
        header=" | ".join(header),
        rule="|".join(["---"] * len(header)),
        scores="\n".join(f"| {' | '.join(map(_cell, row))} |" for row in cells),
    )


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def spread(values: list[float]) -> str:
    """Return mean and standard deviation of a metric over trainings with different seeds, in words."""
    return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f} ({min(values):.4f} to {max(values):.4f})"
