"""Results to look at, and a server that shows them."""

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
from pathlib import Path

import numpy as np
import uvicorn

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.evaluate import confusion_matrix
from hsn_v1.hsn_v1 import STAGES
from hsn_v1.io.records import record_of_label_set
from hsn_v1.io.writing import write_picture
from hsn_v1.sets.outputs import write_maps, write_masks
from hsn_v1.sets.report import ImageResult, summarise
from hsn_v1.sets.settings import Settings
from hsn_v1.show.figures import colourise
from hsn_v1.slide_io.label_maps import LabelMapInfo, write_areas, write_label_map
from hsn_v1.tiles import Window
from hsn_v1.view.library import Library
from hsn_v1.view.open_results import OpenResults
from hsn_v1.view.server import make_app

OTHER, GLAND = FUNC.indices(("Other", "G.O"))


def write_results(folder, source, labels, finished=True, mpp=1.2143, **changes):
    """Write what `segment` writes of a slide, as far as it is looked at; `labels` are label maps by label set."""
    sets = {label_set.name: label_set for label_set in (MORPH, FUNC) if label_set.name in labels}
    for name, label_set in sets.items():
        stem = Path(changes.get("input", source.name)).stem
        write_labels(folder / name / f"{stem}.ome.tif", labels[name], label_set)
        write_picture(folder / name / "overview.png", np.zeros((4, 4, 3), np.uint8))
    height, width = next(iter(labels.values())).shape
    record = {
        "input": source.name,
        "label sets": list(sets),
        "mpp": mpp,
        "source": str(source.resolve()),
        "height": height,
        "width": width,
        "classes": {name: record_of_label_set(label_set) for name, label_set in sets.items()},
        **({"finished": True, "notes": []} if finished else {}),
    }
    record = {key: value for key, value in (record | changes).items() if value is not None}
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    return folder


def write_labels(path, labels, label_set, mpp=17 / 14):
    frame, info = Window(0, 0, *labels.shape), LabelMapInfo(*labels.shape, mpp, label_set)
    counts = write_label_map(path, lambda window: labels[window.within(frame)], info)
    write_areas(path.parent / "areas.csv", counts, info)


@contextlib.contextmanager
def running(root, truth=None, **options):
    """Serve a folder, and give the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        app = make_app(OpenResults(Library.of(root), truth), **options)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def get(port, path, query=None, method="GET", **headers):
    """Ask for a path as it stands, and return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        address = path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        connection.request(method, address, headers={key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def get_json(port, path, **query):
    status, _, body = get(port, path, query)
    assert status == 200, body
    return json.loads(body)


def eventually(check, seconds=30):
    """Wait until a check is true; the page's own policy forbids Playwright's way to wait."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := check():
            return value
        time.sleep(0.05)
    raise AssertionError("this did not come to be")


def draw_set(folder, shares):
    """Write what a demo writes of images, whose masks are wrong in a number of rows."""
    images = tuple(folder / "img" / "set" / file for file in shares)
    settings = Settings(images, folder / "gt" / "set", folder / "out" / "a set", (FUNC,))
    results = []
    for path in images:
        truth = np.full((12, 16), GLAND, np.uint8)
        mask = truth.copy()
        mask[: shares[path.name]] = OTHER
        write_picture(path, np.full((12, 16, 3), 90, np.uint8))
        write_picture(settings.truth / "func" / path.name, colourise(truth, FUNC))
        masks = dict(zip(STAGES, (truth * 0, truth, mask), strict=True))
        write_masks(settings.out, path.name, np.zeros((12, 16, 3), np.uint8), masks, FUNC)
        maps = np.zeros((len(FUNC), 12, 16), np.float32)
        maps[GLAND] = 0.5
        write_maps(settings.out, "gradcam", path.name, maps, FUNC)
        write_maps(settings.out, "gradcam_unadjusted", path.name, maps / 2, FUNC)
        confusions = {("func", stage): confusion_matrix(truth, found, len(FUNC)) for stage, found in masks.items()}
        areas = {("func", stage): np.bincount(found.ravel(), minlength=len(FUNC)) for stage, found in masks.items()}
        pixels = {"func": confusions["func", "CRF"][:-1].sum(axis=1)}
        results.append(ImageResult(path.name, (12, 16), areas, confusions, {}, pixels, {}, ()))
    return settings, summarise(results, {}, [])
