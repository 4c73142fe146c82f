"""Take the README's picture of `hsn-v1 view`: a phantom slide, segmented, beside its ground truth, in Chromium.

    python benchmarks/screenshot.py [--folder DIR] [--out img/view.png]

The slide is made and segmented in --folder, and reused later. All of it takes about two minutes.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench_view import BROWSERS, QUIET, Server
from PIL import Image
from playwright.sync_api import sync_playwright

SIZE, MPP = 6000, 0.5  # px of the slide, and its scale
WINDOW = {"width": 1120, "height": 690}
COLOURS = 96  # few, so that the picture's file is small
VIEW = "set=morph&compare=morph|truth&fade=70&view=2600,2650,3300"


def main() -> None:
    """Make the slide, segment it, and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("out") / "screenshot")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "img" / "view.png")
    arguments = parser.parse_args()
    slides, results = arguments.folder / "slides", arguments.folder / "out"
    if not list(slides.glob("*.tif")):
        run("phantom", "--kind", "slide", "--size", SIZE, "--mpp", MPP, "--out", slides)
    (slide,) = slides.glob("*.tif")
    run("segment", slide, "--out", results / "segmented")
    with Server(results, slides) as server, sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *QUIET])
        page = browser.new_page(viewport=WINDOW)
        page.goto(f"http://127.0.0.1:{server.port}/slide/segmented/{slide.name}#{VIEW}")
        while not page.evaluate(
            "window.viewed?.idle && viewed.right?.isOpen && document.querySelector('.score') !== null"
        ):
            time.sleep(0.1)
        time.sleep(1)  # until animations end
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(arguments.out, optimize=True)
    print(f"picture in {arguments.out}, {arguments.out.stat().st_size / 1000:.0f} kB")


def run(*arguments: object) -> None:
    """Run a command of hsn-v1."""
    subprocess.run([sys.executable, "-m", "hsn_v1", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
