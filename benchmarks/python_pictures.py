"""Run the code of docs/python.md, and save the figure at the end of each section as a small PNG."""

from __future__ import annotations

import argparse
import re
import tempfile
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt

from hsn_v1.show.sheets import png

REPOSITORY = Path(__file__).parents[1]
DOCUMENT = REPOSITORY / "docs" / "python.md"


def main() -> None:
    """Write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "img", help="folder to write to (default: img)")
    out = parser.parse_args().out.absolute()
    plt.switch_backend("agg")
    plt.rcParams.update({"figure.dpi": 76, "figure.figsize": (6, 2.7), "figure.constrained_layout.use": True})
    names = {}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for part in ("data", "img", "gt"):
            Path(part).symlink_to(REPOSITORY / part)
        for section in DOCUMENT.read_text("utf-8").split("\n## "):
            title, blocks = section.partition("\n")[0], re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
            for block in blocks:
                if "import torch" not in block or find_spec("torch"):
                    exec(compile(block, title, "exec"), names)
            if plt.get_fignums():
                plt.gca().set(xticks=[], yticks=[])
                file = f"python_{re.sub('[^a-z]+', '_', title.lower())}.png"
                (out / file).write_bytes(png(plt.gcf()))
                plt.close("all")
                print(file, (out / file).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
