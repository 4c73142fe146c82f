"""Measure the papers' numbers here, and compare; docs/reproduce.md has the source of each published number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from ..adp import CLASSIFIER_MPP
from ..errors import InputError
from ..histonet import HistoNet
from ..io import tree
from ..io.model_files import find_model, model_file
from ..io.models import load_histonet
from ..io.writing import write_bytes, write_table
from ..labels import STAGES
from ..parallel import SMALL_IMAGES, available_cores, classifier_threads, start_workers
from ..progress import announce, progress_bar
from ..show.html import PAGE, Table, link_to, render, versions
from .official import LATER_CLASSES, MODEL, TOLERANCE, UNTOLD, later_taxonomy
from .report import Report
from .run import run, warm_up
from .settings import SaveTypes, Settings, check_params, checked_workers, settings_from_params, with_crfs

FIRST_PAPER, LATER_PAPER = "iccv2019", "ijcv2020"

NOTE = (
    "iccv2019: the numbers of the authors' executed notebooks; ijcv2020: those of the later paper. Reproduced: within "
    f"{TOLERANCE:g}. Of the weights here, {UNTOLD}."
)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A run with published numbers."""

    paper: str  #: `FIRST_PAPER`, `LATER_PAPER` or ``phantoms``
    images: str  #: a set's name, or the part of the later paper's set
    model: str
    #: Published metrics after the CRF, by label set name; None for a metric without a published number.
    published: Mapping[str, Mapping[str, float | None]]
    downsample: float = 1.0  #: factor between the images' scale and the classifier's

    @property
    def title(self) -> str:
        """Paper, images and classifier."""
        return f"{self.paper}, {self.images}, {self.model}"

    def missing(self, root: Path) -> Path | None:
        """Return the first file or folder that the experiment needs and a root lacks; None if the root has all."""
        if self.paper == LATER_PAPER:
            data, truth = root / tree.LATER_CLASSIFIERS / self.model, root / tree.LATER_TRUTH
            needed = [truth, root / tree.LATER_CRFS]
        else:
            data = find_model(root, self.model)
            needed = [root / tree.IMAGES / self.images, root / tree.TRUTH / self.images]
        return next((path for path in (model_file(data, self.model, ".h5"), *needed) if not path.exists()), None)


GLAS_DOWNSAMPLE = CLASSIFIER_MPP / 0.620

EXPERIMENTS = (
    Experiment(
        FIRST_PAPER,
        "01_tuning_patch",
        MODEL,
        {"morph": {"fIoU": 0.20567515, "mIoU": 0.22060561}, "func": {"fIoU": 0.54217157, "mIoU": 0.55052868}},
    ),
    Experiment(FIRST_PAPER, "02_glas_full", MODEL, {"glas": {"fIoU": 0.43560217, "mIoU": 0.43551234}}, GLAS_DOWNSAMPLE),
    *(
        Experiment(LATER_PAPER, part, model, {"morph": {"mIoU": morph}, "func": {"mIoU": func}})
        for model, part, morph, func in (
            ("ADP_X1.7", "tuning", 0.27546, 0.50663),
            ("ADP_X1.7", "segtest", 0.26156, 0.48020),
            ("ADP_VGG16", "tuning", 0.13255, 0.44215),
            ("ADP_VGG16", "segtest", 0.16159, 0.44115),
        )
    ),
)

NONE = {"fIoU": None, "mIoU": None}

#: Experiments to run if there are no data of the authors': they show the way, and nothing else.
PHANTOMS = (
    Experiment("phantoms", "01_phantom_patch", "histonet_X1.7_phantom", {"morph": NONE, "func": NONE}),
    Experiment("phantoms", "02_phantom_glas", "histonet_X1.7_phantom56", {"glas": NONE}, GLAS_DOWNSAMPLE),
)


@dataclass(frozen=True)
class Number:
    """A row of the table: a metric of a label set after the CRF, as published and as measured here."""

    experiment: Experiment
    label_set: str
    metric: str
    here: float | None
    verdict: str  #: ``reproduced``, ``not reproduced``, ``missing``, ``failed`` or ``not comparable``
    reason: str = ""  #: missing file and how to get it, error, or reason why numbers do not compare

    @property
    def published(self) -> float | None:
        """The published number; None if there is none."""
        return self.experiment.published[self.label_set][self.metric]

    @property
    def difference(self) -> float | None:
        """The number measured here less the published one; None if one of them is missing."""
        return None if self.here is None or self.published is None else self.here - self.published

    @property
    def row(self) -> dict[str, str | float | None]:
        """Return the row's values, by column name in the files."""
        names = ("label_set", "metric", "published", "here", "verdict", "reason", "difference")
        of = {name: getattr(self.experiment, name) for name in ("paper", "images", "model")}
        return of | {name: getattr(self, name) for name in names}


@dataclass
class Reproduction:
    """Outcome of all experiments: rows of the table, runs, reasons of failures, and notes."""

    numbers: list[Number] = field(default_factory=list)
    runs: dict[Experiment, tuple[Settings, Report]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def reproduce(
    root: Path, out: Path, advice: Mapping[str, str], phantoms: Path, workers: int | None = None, quiet: bool = False
) -> Reproduction:
    """Run the papers' experiments whose data are there, or phantoms if none are, and compare with the papers' numbers.

    A second call resumes an interrupted one. A failed experiment does not stop the others.

    `root` contains ``data``, ``img`` and ``gt``, or ``database``, or all of them; `phantoms` is the root of the
    phantoms. `advice` says, by paper, how to get missing data. `write` describes the files in `out`.
    """
    outcome, root, out = Reproduction(), root.absolute(), out.absolute()  # workers may have started in another folder
    missing = {experiment: path for experiment in EXPERIMENTS if (path := experiment.missing(root))}
    otherwise = PHANTOMS if len(missing) == len(EXPERIMENTS) else ()
    if otherwise:
        outcome.notes.append(f"{root}: nothing of the authors' is there; phantoms show the way and nothing else")
    for experiment in (*EXPERIMENTS, *otherwise):
        if experiment in missing:
            absent = missing[experiment].relative_to(root)
            outcome.numbers += _rows(experiment, "missing", f"{absent} is missing; {advice[experiment.paper]}")
            continue
        try:
            place = phantoms if experiment in PHANTOMS else root
            settings, histonet = prepare(experiment, place, out / experiment.title.replace(", ", "_"), workers)
            announce(f"{experiment.paper}: {experiment.images}, {experiment.model}", quiet)
            start_workers(settings.workers, warm_up, SMALL_IMAGES)
            with progress_bar(len(settings.images), quiet) as advance:
                report = run(settings, histonet, advance)
        except InputError as error:
            outcome.failures.append(str(error))
            outcome.numbers += _rows(experiment, "failed", str(error))
            continue
        outcome.runs[experiment] = settings, report
        outcome.notes += report.notes
        outcome.failures += report.failures.values()
        reason = _obstacle(experiment, report)
        outcome.numbers += _rows(experiment, "not comparable" if reason else "", reason, report)
    write(out, outcome)
    return outcome


def prepare(experiment: Experiment, root: Path, out: Path, workers: int | None) -> tuple[Settings, HistoNet]:
    """Return an experiment's settings and classifier. Raises InputError if a file is missing or cannot be used."""
    save = SaveTypes(confidences=False, maps=False, masks=True, summaries=False)
    if experiment.paper == LATER_PAPER:
        histonet, crfs = (
            _load(root / tree.LATER_CLASSIFIERS / experiment.model, experiment.model),
            root / tree.LATER_CRFS,
        )
        label_sets = tuple(histonet.labels.label_sets[name] for name in experiment.published)
        images, truth = tree.later_images(root, experiment.images), root / tree.LATER_TRUTH
        settings = Settings(images, truth, out, label_sets, save=save, batch_size=1, workers=checked_workers(workers))
        settings = replace(settings, mpp=histonet.labels.mpp, side=histonet.tile, resize_truth="mask")
    else:
        crfs = find_model(root, experiment.model)
        histonet = _load(crfs, experiment.model)
        params = {
            "input_name": experiment.images,
            "down_fac": experiment.downsample,
            "batch_size": 1,
            "htt_mode": "glas" if "glas" in experiment.published else "both",
            "save_types": list(save),
        }
        settings = settings_from_params(check_params(params), histonet.labels, root, out, workers)
    settings = with_crfs(settings, crfs, experiment.model)
    published = experiment.published if experiment.paper == FIRST_PAPER else {}
    return replace(settings, resume=True, caveat=histonet.labels.caveat, published=published), histonet


@lru_cache(maxsize=1)  # experiments of one classifier follow one another
def _load(folder: Path, model: str) -> HistoNet:
    labels = later_taxonomy(model) if model in LATER_CLASSES else None
    return load_histonet(folder, model, classifier_threads(available_cores()), labels=labels)


def _obstacle(experiment: Experiment, report: Report) -> str:
    """Return the reason why an experiment's numbers do not compare with the published ones; empty if they do."""
    if experiment in PHANTOMS:
        return "Phantoms, of which nothing was published."
    if experiment.paper == FIRST_PAPER and not report.published:
        return report.comparison
    return f"{len(report.failures)} images failed." if report.failures else ""


def _rows(experiment: Experiment, verdict: str, reason: str, report: Report | None = None) -> Iterator[Number]:
    """Yield an experiment's rows, with the given verdict or, if it is empty, with that of the comparison."""
    for label_set, published in experiment.published.items():
        for metric, value in published.items():
            here = report.metrics(label_set, STAGES[-1])[metric] if report else None
            row_verdict = verdict or ("reproduced" if abs(here - value) <= TOLERANCE else "not reproduced")
            yield Number(experiment, label_set, metric, here, row_verdict, reason)


# --- The table -------------------------------------------------------------------------------------------------------


def table_of(numbers: Sequence[Number]) -> Table:
    """Return the table for the terminal and the page."""
    header = ("paper, images, classifier", "number", "published", "here", "difference", "verdict")
    rows, previous = [], None
    for number in numbers:
        values = ("-" if value is None else f"{value:.5f}" for value in (number.published, number.here))
        difference = "-" if number.difference is None else f"{number.difference:+.5f}"
        title = "" if number.experiment is previous else number.experiment.title.replace(", ", "\n")
        rows.append((title, f"{number.label_set} {number.metric}", *values, difference, number.verdict))
        previous = number.experiment
    return Table("The papers' numbers, after the CRF", header, rows, len(header), NOTE)


def reasons_of(numbers: Sequence[Number]) -> list[str]:
    """Return a line for each run whose numbers do not compare: the reason, and the remedy, if any."""
    return list(dict.fromkeys(f"{number.experiment.title}: {number.reason}" for number in numbers if number.reason))


def write(out: Path, result: Reproduction) -> None:
    """Write the table into a folder as ``numbers.csv``, ``numbers.json``, and a page with the runs' figures."""
    rows = [number.row for number in result.numbers]
    write_table(out / "numbers.csv", [list(rows[0]), *(list(row.values()) for row in rows)])
    record = {"numbers": rows, "tolerance": TOLERANCE, "notes": result.notes, "failures": result.failures, **versions()}
    write_bytes(out / "numbers.json", json.dumps(record, indent=1).encode())
    charts, pages = {}, {}
    for experiment, (settings, report) in result.runs.items():
        address = link_to(settings.out / PAGE, out)
        pages[f"{experiment.images}, {experiment.model}"] = Markup('<a href="{0}">{0}</a>').format(address)
        for name in report.weights:
            charts[f"{experiment.title}: {name}"] = {
                "IoU of each class": link_to(tree.iou_chart(settings.out, name), out),
                "Confusion after the CRF": link_to(tree.confusion_chart(settings.out, name, STAGES[-1]), out),
            }
    page = render(
        "run.html",
        title="The papers' numbers",
        caveat=next((settings.caveat for settings, _ in result.runs.values()), ""),
        facts={**pages, **versions()},
        tables=[table_of(result.numbers)],
        charts=charts,
        gallery=None,
        failures=dict(enumerate(result.failures, start=1)),
        notes=[*reasons_of(result.numbers), *result.notes],
    )
    write_bytes(out / PAGE, page.encode(errors="replace"))
