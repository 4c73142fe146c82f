"""Measure `hsn-v1 view` on a large phantom slide: time to the first picture, time of tiles, and the server's memory.

    python benchmarks/bench_view.py [--size 40000] [--mpp 0.25] [--tiles 400] [--rounds 3] [--folder DIR]

A phantom slide is made once in --folder, with its ground truth as label maps. If Chromium is installed, the time from
requesting the page until slide and mask are on the screen is measured. Then this process requests tiles of the slide
and of the label map at random places of random levels, one at a time and eight at a time, as a browser does. Times
include the connection; several rounds show whether memory grows.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from hsn_v1.adp import CLASSIFIER_MPP, HTT_MODES
from hsn_v1.io.records import RECORD, record_of_label_set
from hsn_v1.io.writing import write_bytes
from hsn_v1.phantoms.phantom_slide import write_slide
from hsn_v1.slide_io.label_maps import LabelMapInfo, write_areas, write_label_map
from hsn_v1.tiles import Window

LABEL_SETS = HTT_MODES["both"]
BROWSERS = "chromium", "chromium-browser", "google-chrome", "chrome"
QUIET = [f"--disable-{what}" for what in ("quic", "gpu", "background-networking", "component-update", "sync")]
AT_ONCE = 8  #: approximate number of parallel requests of a page with two viewers


def make_results(folder: Path, size: int, mpp: float) -> Path:
    """Write a phantom slide, and its ground truth as results, unless they exist; return the results' folder."""
    slide, out = folder / "slides" / f"phantom_{size}.tif", folder / "out"
    results = out / "segmented" / slide.name
    if (results / RECORD).exists():
        return out
    write_slide(slide, size, mpp)
    Image.MAX_IMAGE_PIXELS = None
    for label_set in LABEL_SETS:
        with Image.open(slide.with_name(f"{slide.stem}_{label_set.name}.png")) as image:
            labels = np.array(image)

        def read(window: Window, labels: np.ndarray = labels) -> np.ndarray:
            return labels[window.within(Window(0, 0, *labels.shape))]

        info = LabelMapInfo(*labels.shape, CLASSIFIER_MPP, label_set)
        path = results / label_set.name / f"{slide.stem}.ome.tif"
        counts = write_label_map(path, read, info)
        write_areas(path.with_name("areas.csv"), counts, info)
        write_bytes(path.with_name("overview.png"), b"")
    record = {
        "input": slide.name,
        "source": str(slide.resolve()),
        "label sets": [label_set.name for label_set in LABEL_SETS],
        "classes": {label_set.name: record_of_label_set(label_set) for label_set in LABEL_SETS},
        "mpp": mpp,
        "height": size,
        "width": size,
        "finished": True,
    }
    write_bytes(results / RECORD, json.dumps(record).encode())
    return out


class Server:
    """`hsn-v1 view` in a separate process, which ends with the context."""

    def __init__(self, out: Path, truth: Path):
        command = [
            sys.executable,
            "-m",
            "hsn_v1",
            "view",
            str(out),
            "--truth",
            str(truth),
            "--no-browser",
            "--port",
            "0",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)/", self._process.stdout.readline())[1])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, path: str, **query: object) -> tuple[bytes, float]:
        """Request a path; return the response's content and the seconds."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {path} {query}: {content[:200]!r}")
        return content, time.perf_counter() - began

    def memory(self) -> tuple[float, float]:
        """Return current memory of the server and its readers, and the sum of their peaks, in MB."""
        now = most = 0.0
        server = psutil.Process(self._process.pid)
        for process in (server, *server.children(recursive=True)):
            status = Path(f"/proc/{process.pid}/status").read_text()
            most += int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
            now += process.memory_info().rss / 2**20
        return now, most


def first_picture(server: Server, identifier: str) -> tuple[float, float]:
    """Return the seconds from opening the page until its first picture, and until all is drawn."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *QUIET])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto("about:blank")
        began, first = time.perf_counter(), None
        page.goto(f"http://127.0.0.1:{server.port}/slide/{urllib.parse.quote(identifier)}", wait_until="commit")
        while time.perf_counter() - began < 60:
            if first is None and page.evaluate("window.viewed?.left.viewer.world.getItemAt(0)?.lastDrawn?.length > 0"):
                first = time.perf_counter() - began
            if page.evaluate("window.viewed?.idle"):
                break
        whole = time.perf_counter() - began
        browser.close()
    return first or whole, whole


def tiles(server: Server, identifier: str, count: int, seed: int) -> dict[str, list[float]]:
    """Return the milliseconds of tiles of each kind, requested one at a time and several at a time."""
    entry = json.loads(server.ask("/api/entry", id=identifier)[0])
    chance = random.Random(seed)

    def place(side: int, step: int, top: int, level_of: object) -> dict[str, int]:
        up = chance.randrange(top)
        across = math.ceil(math.ceil(side / 2**up) / step)
        return {"level": level_of(up), "row": chance.randrange(across), "column": chance.randrange(across)}

    def image(_: int) -> float:
        whole = (max(entry["height"], entry["width"]) - 1).bit_length()
        where = place(min(entry["height"], entry["width"]), 510, 7, lambda up: whole - up)
        return 1000 * server.ask("/tile/image", id=identifier, **where)[1]

    def labels(_: int) -> float:
        layer = entry["sets"][0]["layers"][0]
        where = place(min(layer["height"], layer["width"]), 512, 4, lambda up: up)
        return (
            1000 * server.ask("/tile/labels", id=identifier, set=entry["sets"][0]["name"], layer="labels", **where)[1]
        )

    times = {"slide, one at a time": [*map(image, range(count))], "mask, one at a time": [*map(labels, range(count))]}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        times[f"slide, {AT_ONCE} at a time"] = [*pool.map(image, range(count))]
        times[f"mask, {AT_ONCE} at a time"] = [*pool.map(labels, range(count))]
    return times


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=40_000, help="side of the slide, in px")
    parser.add_argument("--mpp", type=float, default=0.25)
    parser.add_argument("--tiles", type=int, default=400, help="tiles of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("out") / "bench_view")
    arguments = parser.parse_args()
    out = make_results(arguments.folder, arguments.size, arguments.mpp)
    identifier, console = f"segmented/phantom_{arguments.size}.tif", Console()
    with Server(out, arguments.folder / "slides") as server:
        if any(map(shutil.which, BROWSERS)):
            for which in ("first", "second"):
                first, whole = first_picture(server, identifier)
                console.print(f"{which} opening: first picture after {first:.2f} s, all of it after {whole:.2f} s")
        seconds = server.ask("/api/score", id=identifier, set=LABEL_SETS[0].name, layer="labels")[1]
        console.print(f"score against the ground truth: {seconds:.1f} s")
        table = Table(
            "round", "tiles", "median ms", "95 % ms", "MB now", "MB at most", title="tiles, and the server's memory"
        )
        for number in range(arguments.rounds):
            for kind, times in tiles(server, identifier, arguments.tiles, number).items():
                figures = statistics.median(times), statistics.quantiles(times, n=20)[-1], *server.memory()
                table.add_row(str(number + 1), kind, *(f"{figure:.0f}" for figure in figures))
        console.print(table)


if __name__ == "__main__":
    main()
