"""Segment many small slides of random sizes, scales and formats with the command, and print every failure.

    python benchmarks/sweep_slides.py [--count 300] [--seed 0] [--folder DIR]

Each slide has tissue, textured like H&E, on glass; some have padding, pen marks or nothing. One run of ``hsn-v1
segment`` segments a list of them with a small random classifier. The results of each finished slide are checked: the
label map's size, its areas, outlines inside the slide, an overview. The same seed gives the same slides. DICOM needs
pydicom (``pip install pydicom``), and is left out without it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tifffile
from measuring import REPOSITORY
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

try:
    import pydicom
except ImportError:
    pydicom = None

from hsn_v1.adp import ADP, CLASSIFIER_MPP
from hsn_v1.io.models import save_histonet
from hsn_v1.parallel import available_cores
from hsn_v1.training.networks import build_histonet

MODEL = "sweep"
LONGEST = 6000  # px of a slide's side
MPP = 0.12, 8.0
CLASSIFIED = 1, 800  # px of a slide's side at the classifier's scale
TISSUE = np.clip(np.random.default_rng(0).normal((170, 100, 150), 25, (512, 512, 3)), 5, 225).astype(np.uint8)
INK = (25, 122, 65)


def paint(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a slide, (height, width, 3) uint8: tissue on glass, tissue or glass alone, pen marks, or padding."""
    glass = rng.choice([245, 239, 215])
    image = np.full((height, width, 3), glass, np.uint8)
    image[:: rng.integers(2, 9)] -= 1
    kind = rng.choice(["tissue", "glass", "all", "pen", "padding"], p=[0.6, 0.05, 0.15, 0.1, 0.1])
    if kind != "glass":
        mask = np.full((height, width), kind == "all", np.uint8)
        for _ in range(0 if kind == "all" else rng.integers(1, 4)):
            centre, axes = (int(rng.integers(side)) for side in (width, height)), np.array([width, height]) // 3
            cv2.ellipse(mask, tuple(centre), tuple(axes.tolist()), rng.uniform(0, 180), 0, 360, 1, -1)
        texture = np.tile(TISSUE, (-(-height // 512), -(-width // 512), 1))[:height, :width]
        np.copyto(image, texture, where=mask[..., np.newaxis] > 0)
    if kind == "pen":
        ends = [tuple(int(rng.integers(side)) for side in (width, height)) for _ in range(2)]
        cv2.line(image, *ends, INK, max(1, min(height, width) // 15))
    if kind == "padding":
        image[:, width // 2 :] = rng.choice([0, 255])
    return image


# --- Formats: each writes an image, and returns whether the file states its scale -------------------------------------


def plain(options: dict, mode: str = "RGB") -> Callable[[Path, np.ndarray, float], bool]:
    """Return a function that writes an image with Pillow."""

    def write(path: Path, image: np.ndarray, mpp: float) -> bool:
        Image.fromarray(image).convert(mode).save(path, **options)
        return False

    return write


def pyramid(factor: int, rounded_up: bool = False, aperio: bool = False, **options: object):
    """Return a function that writes a pyramidal TIFF, each level `factor` times smaller; 0 for a single level."""

    def write(path: Path, image: np.ndarray, mpp: float) -> bool:
        with tifffile.TiffWriter(path) as file:
            for level, part in enumerate(levels(image, factor, rounded_up)):
                density = 1e4 / mpp * part.shape[1] / image.shape[1]
                common = {"photometric": "rgb", "metadata": None, "subfiletype": int(level > 0), **options}
                if aperio:
                    size = f"{image.shape[1]}x{image.shape[0]}"
                    common["description"] = f"Aperio Image Library v10.0.51\r\n{size} |AppMag = 20|MPP = {mpp:.6f}"
                file.write(part, resolution=(density, density), resolutionunit="CENTIMETER", **common)
        return True

    return write


def ome(axes: str, factor: int, **options: object):
    """Return a function that writes an OME-TIFF of pixels (YXS) or planes (CYX, SYX)."""

    def write(path: Path, image: np.ndarray, mpp: float) -> bool:
        parts = [part if axes == "YXS" else np.moveaxis(part, -1, 0).copy() for part in levels(image, factor)]
        common = {"photometric": "minisblack" if axes == "CYX" else "rgb", "compression": "zlib", **options}
        common |= {"planarconfig": "separate"} if axes == "SYX" else {}
        with tifffile.TiffWriter(path, ome=True) as file:
            sizes = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
            file.write(parts[0], subifds=len(parts) - 1, metadata={"axes": axes, **sizes}, **common)
            for part in parts[1:]:
                file.write(part, subfiletype=1, **common)
        return True

    return write


def dicom(factor: int, is_jpeg: bool):
    """Return a function that writes a DICOM series of fully tiled images, one file per level."""

    def write(path: Path, image: np.ndarray, mpp: float) -> bool:
        series = pydicom.uid.generate_uid()
        for number, part in enumerate(levels(image, factor)):
            size = mpp * image.shape[0] / part.shape[0] / 1e3, mpp * image.shape[1] / part.shape[1] / 1e3  # mm
            file = dicom_level(part, size, "YBR_FULL_422" if is_jpeg else "RGB")
            file.SeriesInstanceUID = series
            file.save_as(path.with_stem(f"{path.stem}_{number}") if number else path, enforce_file_format=True)
        return True

    return write


def dicom_level(image: np.ndarray, size: tuple[float, float], colours: str, tile: int = 256) -> pydicom.Dataset:
    """Return an image as VL Whole Slide Microscopy; `size` is the height and width of a pixel in mm."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    tiles = [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
    file, shared, pixel = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    if colours == "RGB":
        file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        content = b"".join(map(np.ndarray.tobytes, tiles))
    else:
        file.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
        parts = [io.BytesIO() for _ in tiles]
        for part, pixels in zip(parts, tiles, strict=True):
            Image.fromarray(pixels).save(part, "JPEG", quality=85, subsampling="4:2:2")
        content = pydicom.encaps.encapsulate([part.getvalue() for part in parts])
    file.add_new("PixelData", "OB", content)
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage, pydicom.uid.generate_uid()
    file.ImageType, file.DimensionOrganizationType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "TILED_FULL"
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration = 3, colours, 0
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.Rows, file.Columns, file.NumberOfFrames = tile, tile, len(tiles)
    file.TotalPixelMatrixRows, file.TotalPixelMatrixColumns, file.TotalPixelMatrixFocalPlanes = height, width, 1
    pixel.PixelSpacing = [f"{side:.10f}" for side in size]
    shared.PixelMeasuresSequence = [pixel]
    file.SharedFunctionalGroupsSequence = [shared]
    return file


def levels(image: np.ndarray, factor: int, rounded_up: bool = False) -> list[np.ndarray]:
    """Return an image and its smaller levels, which end when a side has at most 100 px."""
    parts = [image]
    while factor and min(parts[-1].shape[:2]) > 100:
        height, width = (-(-side // factor) if rounded_up else side // factor for side in parts[-1].shape[:2])
        parts.append(cv2.resize(parts[-1], (width, height), interpolation=cv2.INTER_AREA))
    return parts


JPEG = {"tile": (256, 256), "compression": "jpeg", "compressionargs": {"level": 80}}
FORMATS = {
    "Aperio": ("svs", pyramid(4, aperio=True, **JPEG)),
    "tiled TIFF, JPEG": ("tif", pyramid(0, **JPEG)),
    "pyramid, halves": ("tif", pyramid(2, tile=(128, 128), compression="zlib")),
    "pyramid, thirds rounded up": ("tif", pyramid(3, rounded_up=True, tile=(240, 240), compression="lzw")),
    "pyramid, zstd": ("tif", pyramid(4, tile=(512, 512), compression="zstd")),
    "TIFF in strips": ("tiff", pyramid(0, rowsperstrip=7)),
    "OME-TIFF": ("ome.tif", ome("YXS", 2, tile=(256, 256))),
    "OME-TIFF of planes": ("ome.tiff", ome("CYX", 4, tile=(64, 64))),
    "OME-TIFF, separate": ("ome.tif", ome("SYX", 0)),
    "PNG": ("png", plain({"compress_level": 1})),
    "PNG, RGBA": ("png", plain({"compress_level": 1}, "RGBA")),
    "PNG, palette": ("png", plain({"compress_level": 1}, "P")),
    "PNG, grey": ("png", plain({"compress_level": 1}, "L")),
    "JPEG": ("jpg", plain({"quality": 85})),
    "BMP": ("bmp", plain({})),
    "WebP": ("webp", plain({"method": 0})),
    "JPEG 2000": ("jp2", plain({})),
}
if pydicom:
    FORMATS["DICOM, JPEG"] = "dcm", dicom(0, is_jpeg=True)
    FORMATS["DICOM, a file a level"] = "dcm", dicom(4, is_jpeg=False)


def write_slides(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write slides and their list; return the format of each by file name."""
    rng, formats, rows = np.random.default_rng(seed), {}, [["path", "mpp"]]
    for number in track(range(count), "writing slides", console=Console(stderr=True)):
        kind = list(FORMATS)[number % len(FORMATS)]
        mpp = float(np.exp(rng.uniform(*np.log(MPP))))
        sides = np.exp(rng.uniform(*np.log(CLASSIFIED), 2)) if rng.random() < 0.3 else rng.uniform(*CLASSIFIED, 2)
        height, width = np.clip(sides * CLASSIFIER_MPP / mpp, 1, LONGEST).astype(int).tolist()
        ending, write = FORMATS[kind]
        name = f"{number:04d}_{height}x{width}.{ending}"
        states_mpp = write(folder / name, paint(rng, height, width), mpp)
        rows.append([name, "" if states_mpp else f"{mpp:.6f}"])
        formats[name] = kind
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return formats


def write_classifier(root: Path) -> None:
    """Write a small random classifier for ADP's classes, with narrow CRFs."""
    model = build_histonet(len(ADP.outputs), 224, width=1 / 32, dropout=0)
    text = (REPOSITORY / "hsn_v1" / "adp.toml").read_text(encoding="utf-8")
    save_histonet(root / "data", MODEL, model, np.full(len(ADP.outputs), 0.5), ADP.outputs, text)
    for name in ("morph", "func"):
        np.save(root / "data" / f"{name}_optimal_pcc.npy", [[1, 20, 4, 20, 50, 5]])


def fault(folder: Path) -> str:
    """Return the first fault in a slide's results, or ""."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    slide_size = run["facts"]["height"], run["facts"]["width"]
    for label_set in run["label sets"]:
        (path,) = (folder / label_set).glob("*.ome.tif")
        labels = tifffile.imread(path, level=0)
        mpp = run["facts"]["mpp"] if run["facts"]["kind"] == "image" else CLASSIFIER_MPP
        size = tuple(max(1, round(side * run["facts"]["mpp"] / mpp)) for side in slide_size)
        if labels.shape != size:
            return f"label map of {labels.shape}, not {size}"
        with open(folder / label_set / "areas.csv", newline="", encoding="utf-8") as file:
            areas = [int(row["pixels"]) for row in csv.DictReader(file)]
        if areas != np.bincount(labels.ravel(), minlength=len(areas)).tolist():
            return "areas are not those of the label map"
        (outlines,) = (folder / label_set).glob("*.geojson")
        for feature in json.loads(outlines.read_text(encoding="utf-8"))["features"]:
            points = np.vstack(feature["geometry"]["coordinates"])
            if points.min() < 0 or (points.max(axis=0) > slide_size[::-1]).any():
                return "an outline leaves the slide"
        if min(Image.open(folder / label_set / "overview.png").size) < 1:
            return "an empty overview"
    return ""


def sweep(folder: Path, count: int, seed: int) -> int:
    """Write and segment slides in a folder, and print their failures; return the number of these."""
    root, out = folder / "root", folder / "out"
    write_classifier(root)
    formats = write_slides(folder, count, seed)
    command = ["segment", "--list", folder / "list.csv", "--root", root, "--model", MODEL, "--out", out]
    command += ["--workers", available_cores(), "--quiet"]
    done = subprocess.run([sys.executable, "-m", "hsn_v1", *map(str, command)], cwd=REPOSITORY, check=False)
    with open(out / "segmented.csv", newline="", encoding="utf-8") as file:
        rows = {Path(row["input"]).name: row for row in csv.DictReader(file)}
    totals, failures, kinds = Counter(formats.values()), {}, Counter()
    for name in formats:
        row = rows.get(name, {"status": "missing", "reason": f"not in segmented.csv; exit status {done.returncode}"})
        reason = fault(out / name) if row["status"] == "done" else row["reason"] or row["status"]
        if reason:
            failures[name] = reason
        kinds[row.get("kind")] += 1
    table = Table("format", "slides", "failed")
    for kind, total in totals.items():
        table.add_row(kind, str(total), str(sum(formats[name] == kind for name in failures)))
    Console().print(table)
    for name, reason in failures.items():
        print(f"failed: {formats[name]}: {name}: {reason}")
    ways = ", ".join(f"{number} as {kind}" for kind, number in kinds.items() if kind)
    left_out = "" if pydicom else "; no DICOM, as pydicom is not installed"
    print(f"{count - len(failures)} of {count} slides done ({ways}), {len(failures)} failed; seed {seed}{left_out}")
    return len(failures)


def main() -> int:
    """Read the options and sweep; return 1 if a slide failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="number of slides (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to keep slides and results (default: nowhere)")
    arguments = parser.parse_args()
    if arguments.folder:
        arguments.folder.mkdir(parents=True)
        return int(sweep(arguments.folder.absolute(), arguments.count, arguments.seed) > 0)
    with tempfile.TemporaryDirectory() as folder:
        return int(sweep(Path(folder), arguments.count, arguments.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
