"""The calls of the published demo scripts, for scripts that use them, and the choice of the demos' data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from ..densecrf.permutohedral import is_compiled
from ..errors import InputError
from ..histonet import HistoNet
from ..io import tree
from ..io.images import find_images
from ..io.model_files import find_model, read_taxonomy
from ..io.models import load_histonet
from ..parallel import SMALL_IMAGES, available_cores, classifier_threads, start_workers
from ..progress import announce, progress_bar
from .report import Report
from .run import ReadAhead, run, warm_up
from .settings import Settings, check_params, settings_from_params, with_crfs

#: Folder of the phantom images that come with the repository (not with the installed package).
REPOSITORY = Path(__file__).parents[2]

FOLDERS = ("data", "img")  #: required folders of a root; its ground truth is in `gt`


class HistoSegNetV1:
    """A run in the published code's four calls: `find_img`, `analyze_img`, `load_histonet`, `run_batch`.

    Parameters
    ----------
    params : mapping
        ``input_name, input_size, input_mode, down_fac, batch_size, htt_mode, gt_mode, run_level, save_types,
        verbosity``; see `settings.PARAMS`.
    root : str or Path, optional
        Folder that contains ``data``, ``img`` and ``gt``; by default, the current one.
    out : str or Path, optional
        Folder to write to; by default, ``<root>/out/<input_name>``.
    workers : int, optional
        Number of worker processes; by default, one for each core.
    published : mapping of str to mapping of str to float, optional
        Published metrics after the CRF, by label set name, to show next to those of the run.
    precision : {"float32", "bfloat16"}
        Precision of the classifier; bfloat16 is not exact, but faster on processors with instructions for it.
    self_contained : bool
        Write the results page as one file, with thumbnails inside, that can be mailed.
    grad_cams : bool
        Also write each class's Grad-CAM as it is before the adjustment.

    Raises
    ------
    InputError
        If a value of `params` is not valid; in the calls, if a file or folder is missing or cannot be used.

    Examples
    --------
    >>> hsn = HistoSegNetV1({"input_name": "01_phantom_patch", "htt_mode": "both", "down_fac": 1})
    >>> hsn.find_img()
    >>> len(hsn.images)  # then load_histonet({"model_name": "histonet_X1.7_phantom"}) and run_batch(), as demo_01 does
    40
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        root: str | Path = ".",
        out: str | Path | None = None,
        workers: int | None = None,
        published: Mapping[str, Mapping[str, float]] | None = None,
        precision: str = "float32",
        self_contained: bool = False,
        grad_cams: bool = False,
    ) -> None:
        self.params = check_params(params)
        self.images: tuple[Path, ...] = ()
        self.root, self.out, self.workers = Path(root), Path(out) if out else None, workers
        self.published, self.precision = published or {}, precision
        self.self_contained, self.grad_cams = self_contained, grad_cams
        self.settings: Settings | None = None
        self.histonet: HistoNet | None = None
        self._ahead: ReadAhead | None = None
        self._quiet = self.params["verbosity"] == "QUIET"

    def find_img(self) -> None:
        """Look up the images."""
        root = self.root.absolute()  # workers may have started in another folder
        folder = root / tree.IMAGES / self.params["input_name"]
        self.images = find_images(folder, self.params["input_mode"])

    def analyze_img(self) -> None:
        """Do nothing: the published code computed class weights here; now `run_batch` does."""

    def load_histonet(self, params: Mapping[str, str]) -> None:
        """Load the classifier ``params["model_name"]``, its label sets and its CRFs, from the folder ``data``."""
        if set(params) != {"model_name"}:
            raise InputError(f"load_histonet: params has the keys {sorted(params)}, expected model_name alone")
        name = params["model_name"]
        folder = find_model(self.root, name)
        labels = read_taxonomy(folder, name)
        settings = settings_from_params(self.params, labels, self.root, self.out, self.workers, self.images)
        settings = with_crfs(settings, folder, name, self.params["crf"])
        self.settings = replace(
            settings,
            published=self.published,
            caveat=labels.caveat,
            self_contained=self.self_contained,
            grad_cams=self.grad_cams,
        )
        if not is_compiled():
            announce("compiling the dense CRF for this machine, once: this takes some seconds more", self._quiet)
        start_workers(self.settings.workers, warm_up, SMALL_IMAGES)  # while the classifier loads, which takes time
        self._ahead = ReadAhead(self.settings)  # likewise
        self.histonet = load_histonet(folder, name, classifier_threads(available_cores()), self.precision, labels)

    def run_batch(self) -> Report:
        """Segment all images, and write and measure the results."""
        if not self.histonet:
            raise InputError("run_batch: no classifier; call load_histonet(params={'model_name': ...}) before")
        ahead, self._ahead = self._ahead.stop() if self._ahead else {}, None
        with progress_bar(len(self.settings.images), self._quiet) as advance:
            return run(self.settings, self.histonet, advance, ahead)


@dataclass(frozen=True)
class DemoData:
    """Data of a demo: its settings, classifier and folders."""

    params: Mapping[str, Any]  #: the published `params`; see `settings.PARAMS`
    model_name: str  #: classifier in the folder ``data``
    root: Path  #: folder that contains ``data``, ``img`` and ``gt``
    out: Path  #: folder to write to
    note: str = ""  #: note that phantoms are segmented, and why; empty for other data


def choose_data(
    params: Mapping[str, Any], model_name: str, phantom: tuple[str, str], root: Path | str | None = None
) -> DemoData:
    """Choose the data in a folder; by default, those in the current folder or, if it has none, phantoms.

    Parameters
    ----------
    params : mapping
        The published `params`; see `settings.PARAMS`.
    model_name : str
        Classifier in the folder ``data``.
    phantom : (str, str)
        Image set and classifier of this repository's phantoms.
    root : Path or str, optional
        Folder that contains ``data``, ``img`` and ``gt``.

    Raises
    ------
    InputError
        If the given folder has no ``data`` or no ``img``; the message names a folder near it that has both.
    """
    here, name = Path(root or ""), params["input_name"]
    if root:
        check_root(here)
    elif not (here / tree.IMAGES / name).exists() and not any((here / "data").glob(f"{model_name}.*")):
        note = (
            f"{here.resolve()} has no official data (see the README): phantoms, images made by this program, are "
            "segmented instead, by a classifier trained on such"
        )
        name, model_name = phantom
        return DemoData({**params, "input_name": name}, model_name, REPOSITORY, here / tree.RESULTS / name, note)
    return DemoData(params, model_name, here, here / tree.RESULTS / name)


def check_root(root: Path) -> None:
    """Raise InputError if a folder has no ``data`` or no ``img``; the message names a folder near it that has both."""
    missing = [root / name for name in FOLDERS if not (root / name).is_dir()]
    if not missing:
        return
    here, above = root.absolute(), root.absolute().parent
    folders = [above, *(child for place in (here, above) if place.is_dir() for child in place.iterdir())]
    fitting = [folder for folder in folders if all((folder / name).is_dir() for name in FOLDERS)]
    near = max(fitting, key=lambda folder: SequenceMatcher(None, folder.name, here.name).ratio(), default=None)
    advice = f"; did you mean {near}?" if near else ", as in the authors' download"
    raise InputError(f"{missing[0]}: no such folder; expected data, img and gt in {root}{advice}")
