"""Execute notebooks in the current folder, and store them with their outputs: ``execute_notebooks.py --help``."""

import argparse
import base64
import io
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

REPOSITORY = Path(__file__).parents[1]


def execute(path, out):
    """Execute a notebook from top to bottom, and write it without times or versions, which change by themselves."""
    notebook = nbformat.read(path, as_version=4)
    metadata = notebook.metadata.copy()
    settings = {"timeout": 3600, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": os.getcwd()}}, **settings).execute()
    notebook.metadata = metadata
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])
    nbformat.write(notebook, out)


def smaller(picture):
    """Return a PNG in base64 with 256 colours: a third of the bytes."""
    image, content = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"), io.BytesIO()
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(content, "png", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="folder to write to (default: in place)")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    for path in arguments.notebooks:
        execute(path, arguments.out / path.name if arguments.out else path)
