"""``hsn-v1 benchmark``: turn a released data set with patch labels into the row of a paper's table."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .common import note, tell
from .options import MPP, Parser, add_root, add_views, add_workers, views_of, whole
from .train import prepare

if TYPE_CHECKING:
    from ..histonet import HistoNet
    from ..labels import LabelSet, Taxonomy
    from ..sets.benchmarks import Benchmark, Part

MOST_PATCHES = 4000  #: most patches per class that are cut out of images with masks
STEPS = ("train", "tune", "segment", "score")


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``benchmark``."""
    parser = subparsers.add_parser(
        "benchmark",
        help="train, tune, segment and score on a released data set",
        description="Trains on the training part, tunes thresholds and CRF on the validation part, segments the test "
        "part, scores it and prints the row of a table. Finished steps are not repeated; see docs/benchmarks.md.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="the data set as released: train, val, test; or GlaS")
    add("--set", metavar="NAME", help="luad, bcss, wsss4luad or glas (default: detected by the file names)")
    add("--classes", nargs="+", metavar="CLASS=COLOUR", help="classes of another set, in their order")
    add("--mpp", type=MPP, help="microns per pixel (default: the set's)")
    add("--name", help="name of the model (default: the set's)")
    add_root(parser, new=True)
    add("--out", type=Path, metavar="DIR", help="folder to write to (default: ROOT/out/NAME)")
    add("--step", choices=STEPS, help="run this step only (default: all)")
    add("--part", choices=("test", "validation"), default="test", help="part to score (default: test)")
    add("--train-options", type=shlex.split, default=[], metavar="OPTIONS", help="for train: '--network histonet'")
    add("--patch", type=whole(1), default=64, metavar="PX", help="side of patches to cut (default: 64)")
    add("--tuning", type=whole(1), default=200, metavar="N", help="images to tune on (default: 200)")
    add("--trials", type=whole(1, 10_000), default=40, help="CRF settings to try (default: 40)")
    add("--repeats", type=whole(1, 1000), default=1, metavar="N", help="run all steps with N seeds (default: 1)")
    add_workers(parser)
    add("--force", action="store_true", help="repeat finished steps")
    add("--quiet", action="store_true", help="no progress")
    add_views(parser)
    parser.set_defaults(run=_run, resumes=True)


@dataclass(frozen=True)
class _Job:
    """A benchmark's options, data, model name, seed, and folder for results."""

    arguments: argparse.Namespace
    benchmark: Benchmark
    parts: dict[str, Part]
    name: str
    out: Path
    seed: int
    scores: list[dict[str, float]]  # mIoU by protocol, of each seed that was scored

    @property
    def data(self) -> Path:
        return self.arguments.root / "data"

    @property
    def mpp(self) -> float:
        return self.arguments.mpp or self.benchmark.mpp

    @property
    def options_of_all(self) -> dict[str, object]:
        return {"root": self.arguments.root, "quiet": self.arguments.quiet or None}

    def part(self, name: str) -> Part:
        from ..sets.benchmarks import PARTS

        if name not in self.parts or not self.parts[name].truth:
            raise InputError(
                f"{self.arguments.folder}: no {name} part with images and masks; expected folders img and mask in one "
                f"of {', '.join(PARTS[name])}"
            )
        return self.parts[name]

    def is_done(self, step: str, result: Path, made_from: Path | None = None) -> bool:
        """Tell whether a step's result exists and is no older than its source; if so, print a line on it."""
        from ..io.reading import has_content

        if self.arguments.force or not has_content(result):
            return False
        if made_from and made_from.stat().st_mtime > result.stat().st_mtime:
            return False
        print(f"{step}: done before ({result}); --force does it again")
        return True


def _run(arguments: argparse.Namespace) -> int:
    from ..file_names import file_name
    from ..io.locks import alone_in

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of several models in one process
    benchmark, name = _benchmark(arguments)
    out = arguments.out or arguments.root / "out" / file_name(name)
    steps: dict[str, Callable[[_Job], int]] = {"train": _train, "tune": _tune, "segment": _segment, "score": _score}
    status, scores, chosen = 0, [], [arguments.step] if arguments.step else STEPS
    with alone_in(out):
        parts = _parts(arguments, benchmark, out)
        for seed in range(arguments.repeats):
            repeat = f"seed{seed}" if seed else ""
            job = _Job(arguments, benchmark, parts, f"{name}_{repeat}".removesuffix("_"), out / repeat, seed, scores)
            status = max(status, *(steps[step](job) for step in chosen))
    if len(scores) > 1:
        _say_spread(scores)
    return status


def _say_spread(scores: list[dict[str, float]]) -> None:
    """Print mean and spread of mIoU over trainings with different seeds."""
    from ..training.validation_report import spread

    for protocol in scores[0]:
        print(f"mIoU ({protocol}) of {len(scores)} seeds: {spread([score[protocol] for score in scores])}")


def _benchmark(arguments: argparse.Namespace) -> tuple[Benchmark, str]:
    """Return the data set and the model's name."""
    from ..sets.benchmarks import BENCHMARKS, IN_ONE_FOLDER_SET, Benchmark, detect, find_parts, images_in_one_folder
    from ..training.new_class_file import parse_classes

    folder, name = arguments.folder, arguments.set
    if name and name not in BENCHMARKS:
        raise InputError(f"--set {name}: expected one of {', '.join(BENCHMARKS)}")
    if arguments.classes:
        classes = parse_classes(arguments.classes)
        if None in classes.values() or not arguments.mpp:
            raise InputError("--classes: expected the masks' colours, such as tumour=#004080, and --mpp")
        benchmark, name = Benchmark(classes, arguments.mpp), name or folder.resolve().name
    else:
        name = name or (IN_ONE_FOLDER_SET if images_in_one_folder(folder) else detect(find_parts(folder)))
        benchmark = BENCHMARKS[name]
    return benchmark, arguments.name or name


def _parts(arguments: argparse.Namespace, benchmark: Benchmark, out: Path) -> dict[str, Part]:
    """Return the data set's parts; images of one folder are sorted into parts first."""
    from ..progress import track
    from ..sets.benchmarks import find_parts, images_in_one_folder, sorted_into_parts

    folder, in_one_folder = arguments.folder, images_in_one_folder(arguments.folder)
    if in_one_folder:
        done = sorted_into_parts(folder, benchmark, out / "parts")
        for _ in track(done, "sorting into parts", len(in_one_folder), arguments.quiet):
            pass
        folder = out / "parts"
    return find_parts(folder)


def _call(command: str, more: Sequence[str] = (), **options: object) -> int:
    """Print and run another command, with those options that are not None."""
    arguments = _parsed(command, more, **options)
    print(f"hsn-v1 {shlex.join(arguments.words)}", flush=True)
    return arguments.run(arguments)


def _parsed(command: str, more: Sequence[str] = (), **options: object) -> argparse.Namespace:
    words = [command]
    for name, value in options.items():
        option, values = name.replace("_", "-"), [*value] if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", *map(str, values)]
    parser = Parser(prog="hsn-v1")
    import_module(f".{command.replace('-', '_')}", __package__).add_command(parser.add_subparsers())
    return parser.parse_args([*words, *more], argparse.Namespace(words=[*words, *more]))


def _train(job: _Job) -> int:
    from ..io.model_files import model_file
    from ..sets.benchmarks import PARTS, has_labels

    part, failed = job.parts.get("train"), 0
    if not part:
        raise InputError(f"{job.arguments.folder}: no training part; expected one of {', '.join(PARTS['train'])}")
    if job.is_done("train", model_file(job.data, job.name, ".h5")):
        return 0
    classes = [f"{code}=#{bytes(colour).hex()}" for code, colour in job.benchmark.classes.items()]
    patches, more = {"images": part.images, "labels": "names"}, job.arguments.train_options
    frozen = not any(option.startswith(("--network", "--no-frozen")) for option in more)  # see docs/real_tissue.md
    options = {"name": job.name, "network": "efficientnet-lite0" if frozen else None}
    prepare(_parsed("train", more, images=part.images, **options))  # before anything is cut
    if not has_labels(part):
        folder = job.out / "patches"
        if not job.is_done("patches", folder / "validation" / "labels.csv"):
            failed = _cut_patches(job, folder, classes, frozen)
        patches = {"images": folder / "train", "validation": folder / "validation"}
    has_classes = model_file(job.data, job.name, ".toml").exists()
    status = _call(
        "train",
        [*more, *(["--seed", str(job.seed)] if job.seed else [])],
        **patches,
        **options,
        **job.options_of_all,
        out=job.out / "train",
        mpp=job.mpp,
        classes=None if has_classes else classes,
        background=None if has_classes else job.benchmark.background,
    )
    return max(failed, status)


def _cut_patches(job: _Job, out: Path, classes: list[str], frozen: bool) -> int:
    """Cut patches of the training and validation parts; without the latter, keep some training images for it."""
    size = job.arguments.patch
    cut = {"size": size, "stride": size // 2, "mpp": job.mpp, "max_per_class": MOST_PATCHES, "classes": classes}
    cut |= {"context": size // 2 if frozen else None, "force": job.arguments.force or None}
    if "validation" in job.parts and job.parts["validation"].truth:
        where = {"train": {"out": out / "train"}, "validation": {"out": out / "validation"}}
    else:
        where = {"train": {"out": out, "validation": 0.2}}
    parts = {name: job.part(name) for name in where}
    return max(_call("patches", images=p.images, truth=p.truth, **cut, **where[name]) for name, p in parts.items())


def _model(job: _Job) -> tuple[Taxonomy, LabelSet]:
    """Return the model's taxonomy and its only label set. Raises InputError if the model is not trained yet."""
    from ..io.model_files import model_file, read_taxonomy
    from .evaluate import only_label_set

    if not (weights := model_file(job.data, job.name, ".h5")).exists():
        raise InputError(f"{weights}: no such model; run --step train first, or give its --name")
    labels = read_taxonomy(job.data, job.name)
    return labels, only_label_set(labels, None)


def _tune(job: _Job) -> int:
    """Tune thresholds and CRF, on images of the validation part or, without one, of the training part."""
    from ..io.locks import locked_name
    from ..io.model_files import model_file
    from ..sets.benchmarks import link_or_copy, tuning_pairs
    from ..training.labelled_images import read_tuning_set
    from ..training.tuning import tune_thresholds, write_thresholds

    part, folder = job.part("validation" if "validation" in job.parts else "train"), job.out / "tuning"
    labels, label_set = _model(job)
    if job.is_done("tune", folder / f"crf_{label_set.name}.csv", model_file(job.data, job.name, ".h5")):
        return 0
    for image, mask in tuning_pairs(part, job.arguments.tuning):
        link_or_copy(image, folder / "img" / image.name)
        link_or_copy(mask, folder / "mask" / image.name)
    pairs, notes, failures = read_tuning_set(folder / "img", folder / "mask", label_set)
    status = tell(notes, failures)
    if not labels.views.window:  # else thresholds are already those of windows, as in its patches
        with locked_name(job.data, job.name):
            thresholds, kept = tune_thresholds(pairs, _classifier(job), label_set, labels.mpp / job.mpp)
            write_thresholds(model_file(job.data, job.name, ".mat"), thresholds)
        values = (f"{code} {value:.3f}" for code, value in zip(labels.codes, thresholds, strict=True))
        print(f"thresholds: {', '.join(values)}")
        for code in kept:
            note(f"{code} is in all tiles to tune on, or in none, and keeps its threshold")
    options = {"images": folder / "img", "truth": folder / "mask", "trials": job.arguments.trials, "mpp": job.mpp}
    options |= {"out": folder, **views_of(job.arguments)}
    return max(status, _call("tune-crf", model=job.name, **job.options_of_all, **options))


def _classifier(job: _Job) -> HistoNet:
    from ..io.models import load_histonet

    return load_histonet(job.data, job.name).with_views(**views_of(job.arguments))


def _segment(job: _Job) -> int:
    from ..sets.settings import SaveTypes, settings_of_folder, with_crfs
    from .image_sets import segment_images

    part = job.part(job.arguments.part)
    labels, label_set = _model(job)
    out, downsample = job.out / job.arguments.part, labels.mpp / job.mpp
    save, resume = SaveTypes(False, False, True, False), not job.arguments.force
    more = {"save": save, "resume": resume, "resize_truth": "noted"}
    settings = settings_of_folder(part.images, labels, (label_set,), out, part.truth, downsample=downsample, **more)
    settings = with_crfs(settings, job.data, job.name)
    report = segment_images(settings, _classifier(job), job.arguments.workers, job.arguments.quiet)
    return tell(report.notes, report.failures.values())


def _score(job: _Job) -> int:
    """Score the masks of each stage; print and write the rows of a table."""
    from ..io import tree
    from ..io.writing import write_bytes, write_table
    from ..labels import STAGES
    from ..sets.comparison import Pooling, paper_table, results_of, value_rows
    from ..sets.score import score_folder
    from ..show.figures import STAGE_TITLES
    from .evaluate import print_results

    out, part = job.out / job.arguments.part, job.part(job.arguments.part)
    _, label_set = _model(job)
    folders = {stage: tree.stage_mask(out, label_set.name, stage, "").parent for stage in STAGES}
    if not folders[STAGES[-1]].is_dir():
        raise InputError(f"{out / label_set.name}: no masks; run --step segment first")
    *earlier, score = (score_folder(folder, part.truth, label_set, resize=True) for folder in folders.values())
    titles = [STAGE_TITLES[stage] for stage in STAGES]
    results = results_of(score, dict(zip(titles, earlier, strict=False)), Pooling())
    print_results(results, score, Pooling())
    write_table(out / "score.csv", value_rows(results))
    rows = {f"HistoSegNet, {job.name}, {result.masks or titles[-1]}": result.table for result in results}
    text = "\n\n".join(paper_table(rows, protocol) for protocol in Pooling().columns)
    write_bytes(out / "score.md", f"{text}\n".encode())
    print(f"{text}\n\nrows in {out / 'score.md'}, all values in {out / 'score.csv'}")
    job.scores.append({protocol: estimate.value for protocol, estimate in results[0].table["mIoU", ""].items()})
    return tell(failures=score.failures)
