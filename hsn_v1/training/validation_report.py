"""Report on a trained classifier: thresholds and metrics on validation patches, learning curves, model card."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..io.writing import write_bytes, write_table
from ..show.html import versions
from .checkpoints import LOG, read_log
from .classes import mixture_of
from .recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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

Of patches that were not trained on, but by which {chosen} and the thresholds were chosen. Scores of masks are what
counts: `hsn-v1 evaluate --baselines`, on images of other cases.

| {header} |
|{rule}|
{scores}

Written by `hsn-v1 train`, which writes it anew. What everyone must know goes into `caveat` of {name}.toml. CRF:
`hsn-v1 tune-crf`.
"""

MOST_NAMED = 12  #: with more curves, there is no legend


def equal_error_thresholds(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each class's threshold at the ROC point where sensitivity and specificity are nearest to each other.

    All thresholds between the score at that point and the next lower score separate these patches alike. The middle
    of this interval is likeliest to separate other patches.

    `targets` are (N, K) of 0 or 1, `scores` (N, K) in 0..1. Thresholds are (K,) float64 in 1/3..1. A class that no
    patch has gets 1: no score is known to mean that it is present.
    """
    from sklearn.metrics import roc_curve

    thresholds = np.ones(targets.shape[1])
    for i, (truth, score) in enumerate(zip(targets.T, scores.T, strict=True)):
        if truth.all():
            thresholds[i] = score.min()
        elif truth.any():
            false_positives, sensitivity, at = roc_curve(truth, score)
            point = at[np.abs(sensitivity - (1 - false_positives)).argmin()]
            thresholds[i] = (point + score[score < point].max(initial=0)) / 2
    return thresholds.clip(1 / 3, 1)


def classification_report(
    codes: Sequence[str], targets: np.ndarray, scores: np.ndarray, thresholds: np.ndarray
) -> list[dict]:
    """Return a row of metrics for each class that some patches have and others lack.

    `targets` and `scores` are (N, K), `codes` and `thresholds` have length K. A row has the keys class, patches, AUC,
    sensitivity, specificity, F1 and threshold.
    """
    from sklearn.metrics import f1_score, recall_score

    rows, areas = [], areas_under_curve(codes, targets, scores)
    for code, truth, score, threshold in zip(codes, targets.T, scores.T, thresholds, strict=True):
        if code in areas:
            found = score >= threshold
            rows.append(
                {
                    "class": code,
                    "patches": int(truth.sum()),
                    "AUC": areas[code],
                    "sensitivity": recall_score(truth, found),
                    "specificity": recall_score(truth, found, pos_label=0),
                    "F1": f1_score(truth, found, zero_division=0),
                    "threshold": float(threshold),
                }
            )
    return rows


def areas_under_curve(codes: Sequence[str], targets: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return the AUC by class code, for the classes that some patches have and others lack; arrays are (N, K)."""
    from sklearn.metrics import roc_auc_score

    columns = zip(codes, targets.T, scores.T, strict=True)
    return {code: float(roc_auc_score(truth, score)) for code, truth, score in columns if 0 < truth.sum() < len(truth)}


def write_report(out: Path, rows: list[dict]) -> None:
    """Write metrics as ``classes.csv`` and ``classes.png``, and learning curves as ``curves.png``."""
    from matplotlib import rc_context

    cells = ([round(value, 4) if isinstance(value, float) else value for value in row.values()] for row in rows)
    write_table(out / "classes.csv", [list(rows[0]) if rows else ["class"], *cells])
    with rc_context({"text.parse_math": False}):  # names of classes are no formulas
        _save(class_figure(rows), out / "classes.png")
        _save(curve_figure(read_log(out / LOG)), out / "curves.png")


def class_figure(rows: list[dict]) -> Figure:
    """Draw the metrics of each class in a row, labelled with its number of patches."""
    from matplotlib.figure import Figure  # without pyplot: needs no display, keeps no state

    figure = Figure(figsize=(8, 1.6 + 0.3 * len(rows)), dpi=130, layout="constrained")
    axes = figure.add_subplot(xlim=(-0.02, 1.02), title="Classifier on the validation patches")
    for key, marker in (("AUC", "o"), ("sensitivity", ">"), ("specificity", "<"), ("F1", "x")):
        axes.plot([row[key] for row in rows], range(len(rows)), marker, label=key, markersize=7)
    axes.set_yticks(range(len(rows)), [f"{row['class']} ({row['patches']})" for row in rows])
    axes.set_ylabel("class (patches that have it)")
    axes.invert_yaxis()
    axes.margins(y=0.6 / max(len(rows), 1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def curve_figure(log: list[dict[str, str]]) -> Figure:
    """Draw losses, AUC of each class, learning rate and speed over the epochs, and mark the best epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 10), dpi=130, layout="constrained")
    loss, auc, rate = figure.subplots(3, sharex=True, height_ratios=(4, 4, 2))
    loss.set(ylabel="weighted cross-entropy + weight decay", title="Learning curves")
    auc.set(ylabel="AUC, validation")
    rate.set(ylabel="learning rate", xlabel="epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    (speed := rate.twinx()).set_ylabel("patches per second")
    for key, label in (("loss", "training"), ("val_loss", "validation")):
        _curve(loss, log, key, label=label)
    for key in [column for column in (log[-1] if log else ()) if column.startswith("AUC ")]:
        _curve(auc, log, key, label=key[4:])
    _curve(rate, log, "rate", color="black")
    _curve(speed, log, "patches_per_second", color="tab:red", linestyle=":")
    speed.yaxis.label.set_color("tab:red")
    if log:
        losses = [float(row["val_loss"]) for row in log]
        best = int(np.argmin(losses))
        loss.plot(best + 1, losses[best], "o", fillstyle="none", markersize=12, color="black", label="kept")
    for axes in (loss, auc, rate):
        axes.grid(alpha=0.3)
    if loss.lines:  # a frozen network has no epochs
        loss.legend()
    if 0 < len(auc.lines) <= MOST_NAMED:
        auc.legend()
    return figure


def _curve(axes: Axes, log: list[dict[str, str]], key: str, **style: str) -> None:
    """Draw the values that a column of the log has: logs of earlier versions have fewer columns."""
    points = [(epoch, float(row[key])) for epoch, row in enumerate(log, 1) if row.get(key)]
    axes.plot(*zip(*points, strict=True), marker=".", **style) if points else None


def _save(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(path, picture.getvalue())


def model_card(
    name: str, data: TrainingData, recipe: Recipe, rows: list[dict], sources: Mapping[str, str], epochs: int
) -> str:
    """Return a classifier's model card as Markdown.

    `rows` are those of `classification_report`. `sources` are further facts by their names: where patches and labels
    are from, and the command.
    """
    labels, present = data.labels, data.train.targets > 0
    numbers = [f"{code} {count}" for code, count in zip(labels.codes, present.sum(axis=0), strict=True) if count]
    judged = [f"{row['class']} {row['patches']}" for row in rows]
    settings = recipe.used if recipe.frozen else {**recipe.used, "epochs": epochs}
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
        chosen="the regularisation" if recipe.frozen else "the best epoch",
        header=" | ".join(header),
        rule="|".join(["---"] * len(header)),
        scores="\n".join(f"| {' | '.join(map(_cell, row))} |" for row in cells),
    )


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def spread(values: list[float]) -> str:
    """Format mean, standard deviation and range of a metric over trainings with different seeds."""
    return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f} ({min(values):.4f} to {max(values):.4f})"
