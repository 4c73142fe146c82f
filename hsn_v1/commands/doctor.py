"""``hsn-v1 doctor``: check what works here, on one page, for the beginning of a bug report."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..errors import InputError
from .common import PHANTOM_MODEL

#: Browsers, in order of preference.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox", "microsoft-edge")

#: Vector instructions, by their names in Linux, that TensorFlow and the CRF use.
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")

#: The phantom classifier's results for phantom `SEED`: the mean score, and each class's share after each stage.
SEED = 60_000
EXPECTED = {
    "scores": [0.2381],
    "GradCAM": [0.0, 0.0, 0.0688, 0.8661, 0.0652],
    "Adjust": [0.0299, 0.0949, 0.0, 0.8313, 0.0439],
    "CRF": [0.034, 0.0589, 0.0, 0.8669, 0.0402],
}

#: Largest difference of scores and shares between machines.
TOLERANCE = 0.02


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``doctor``."""
    parser = subparsers.add_parser(
        "doctor",
        help="check what works here, for bug reports",
        epilog="exit status: 0 all required parts work, 1 some do not",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    results = {}
    for name, check in CHECKS.items():
        try:
            results[name] = {"works": True, "text": check()}
        except Exception as error:  # a broken part does not stop the other checks
            results[name] = {"works": False, "text": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        for name, result in results.items():
            print(f"{'ok' if result['works'] else 'FAILS':6} {name:10} {result['text']}")
    return int(not all(result["works"] for result in results.values()))


# --- Checks: each returns a line, or raises the problem ---------------------------------------------------------------


def _versions() -> str:
    from .. import __version__

    where = Path(__file__).parents[1]
    return f"hsn_v1 {__version__} in {where}, Python {platform.python_version()}, {platform.platform()}"


def _libraries() -> str:
    """Return the versions of all required libraries. Raises ImportError if some are missing."""
    from ..show.html import LIBRARIES

    there = {name: _version_of(name) for name in _requirements().get("", LIBRARIES[:-1])}
    if missing := [name for name, number in there.items() if not number]:
        raise ImportError(f"{', '.join(missing)}: not installed; run pip install hsn_v1")
    return ", ".join(f"{name} {number}" for name, number in there.items())


def _extras() -> str:
    parts = []
    for extra, names in _requirements().items():
        lacking = [name for name in names if not _version_of(name)]
        parts += [f"{extra} (without {', '.join(lacking)})" if lacking else extra] if extra else []
    return ", ".join(parts) or "unknown, as hsn_v1 runs without being installed"


def _requirements() -> dict[str, list[str]]:
    """Return the names of required libraries, by extra ("" for none); empty if hsn_v1 is not installed."""
    names: dict[str, list[str]] = {}
    with contextlib.suppress(PackageNotFoundError):
        for line in requires("hsn_v1") or []:
            extra = line.partition("extra ==")[2].strip(" \"')")
            names.setdefault(extra, []).append(re.match(r"[\w.-]+", line)[0])
    return names


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _tensorflow() -> str:
    from ..keras_start import import_keras, quiet_start

    with quiet_start():
        keras = import_keras()
        import tensorflow

        tensorflow.constant(1.0)
    devices = ", ".join(device.device_type for device in tensorflow.config.list_physical_devices())
    return f"TensorFlow {tensorflow.__version__}, Keras {keras.__version__}, on {devices}"


def _processor() -> str:
    from ..keras_start import has_fast_bfloat16

    flags = set()
    with contextlib.suppress(OSError):
        flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    known = " ".join(name for name in INSTRUCTIONS if name in flags) or "instructions unknown"
    return f"{platform.machine()}, {known}; bfloat16 is {'' if has_fast_bfloat16() else 'not '}fast"


def _resources() -> str:
    import psutil

    from ..io.sandbox import available_memory
    from ..parallel import available_cores

    free, memory = available_memory() / 1e9, psutil.virtual_memory().total / 1e9
    return f"{available_cores()} of {os.cpu_count()} cores, {free:.1f} of {memory:.1f} GB of memory free"


def _slides() -> str:
    """Write a small file of each kind, and read it in the sandbox."""
    import numpy as np
    import openslide
    import tifffile
    from PIL import Image

    from ..slide_io.formats import SLIDE_ENDINGS
    from ..slide_io.slide import open_slide

    picture = np.full((64, 64, 3), 200, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        tiled = Path(folder) / "tiled.tif"
        tifffile.imwrite(tiled, picture, tile=(16, 16), photometric="rgb", compression="jpeg", metadata=None)
        tifffile.imwrite(Path(folder) / "x.ome.tif", picture, photometric="rgb", compression="lzw")
        Image.fromarray(picture).save(Path(folder) / "x.png")
        for path in sorted(Path(folder).iterdir()):
            with open_slide(path, 1) as slide:
                if abs(slide.pixels().mean() - 200) > 2:
                    raise InputError(f"{path.name} is read wrongly")
    versions = f"OpenSlide {openslide.__library_version__}, tifffile {tifffile.__version__}"
    return f"{versions}: TIFF, OME-TIFF and PNG are read; of scanners: {' '.join(SLIDE_ENDINGS)}"


def _cache() -> str:
    from ..densecrf import is_compiled

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = is_compiled()
    if caught:
        raise InputError(str(caught[0].message))
    return "the CRF is compiled" if compiled else "the CRF is compiled at its first use, in some ten seconds"


def _browser() -> str:
    import webbrowser

    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path:
        return path
    with contextlib.suppress(webbrowser.Error):
        return f"the system's ({webbrowser.get().name})"
    return "none here: open the pages elsewhere"


def _dask() -> str:
    numbers = {name: _version_of(name) for name in ("distributed", "dask-jobqueue")}
    there = ", ".join(f"{name} {number}" for name, number in numbers.items() if number)
    return there or "not installed, as only clusters need it: pip install 'hsn_v1[cluster]'"


def _self_test() -> str:
    """Segment a phantom, and compare each stage's numbers with the stored ones."""
    began = time.monotonic()
    wrong = [name for name, deviation in deviations(stage_numbers()) if deviation > TOLERANCE]
    if wrong:
        raise InputError(f"other numbers than stored after {', '.join(wrong)}")
    return f"a phantom gives the stored numbers after {', '.join(EXPECTED)}, in {time.monotonic() - began:.1f} s"


def stage_numbers() -> dict[str, list[float]]:
    """Return each stage's numbers on a phantom: the mean score, and each class's share of the pixels."""
    import numpy as np

    from ..classify import classify
    from ..hsn_v1 import segment
    from ..io.model_files import load_crfs
    from ..io.models import load_histonet
    from ..phantoms import phantom

    image = phantom.patch(SEED).image
    histonet = load_histonet(PHANTOM_MODEL)
    label_set = histonet.labels.label_sets["func"]
    crfs = {label_set.name: load_crfs(PHANTOM_MODEL)[label_set.name]}
    ((_, _, tiles),) = classify([(None, image)], histonet)
    ((_, segmentation),) = segment(image, tiles, [label_set], crfs)
    shares = {
        stage: (np.bincount(mask.ravel(), minlength=len(label_set)) / mask.size).tolist()
        for stage, mask in segmentation.masks.items()
    }
    return {"scores": [float(tiles.scores.mean())], **shares}


def deviations(numbers: dict[str, list[float]]) -> Iterator[tuple[str, float]]:
    """Yield each stage with the largest difference between its numbers and the stored ones."""
    for stage, expected in EXPECTED.items():
        yield stage, max(abs(a - b) for a, b in zip(numbers[stage], expected, strict=True))


CHECKS: dict[str, Callable[[], str]] = {
    "versions": _versions,
    "libraries": _libraries,
    "extras": _extras,
    "tensorflow": _tensorflow,
    "processor": _processor,
    "resources": _resources,
    "slides": _slides,
    "cache": _cache,
    "browser": _browser,
    "dask": _dask,
    "self-test": _self_test,
}
