"""Results to look at, and a server that shows them."""

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
from itertools import product
from pathlib import Path

import numpy as np
import uvicorn

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.evaluate import confusion_matrix
from hsn_v1.io import tree
from hsn_v1.io.masks import mask_name
from hsn_v1.io.records import record_of_label_set
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import STAGES
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


def draw_run(folder, files, label_sets=(FUNC,), draw=None, **changes):
    """Write what a run writes that its page links; `draw` makes ground truth and the mask of each stage."""
    rng = np.random.default_rng(4)
    images = tuple(folder / "img" / "set" / file for file in files)
    settings = Settings(images, folder / "gt" / "set", folder / "out" / "a set", label_sets, **changes)
    results = []
    for path in images:
        image = np.full((12, 16, 3), 90, np.uint8)
        write_pictures(path, image)
        confusions, areas = {}, {}
        for s in label_sets:
            truth, *masks = draw(path.name) if draw else rng.integers(0, len(s), (4, 12, 16), np.uint8)
            masks = dict(zip(STAGES, masks, strict=True))
            write_pictures(settings.truth / s.name / path.name, colourise(truth, s))
            write_masks(settings.out, mask_name(path.name), image, masks, s)
            for stage, mask in masks.items():
                confusions[s.name, stage] = confusion_matrix(truth, mask, len(s))
                areas[s.name, stage] = np.bincount(mask.ravel(), minlength=len(s))
        pixels = {s.name: confusions[s.name, "CRF"][:-1].sum(axis=1) for s in label_sets}
        results.append(ImageResult(path.name, image.shape[:2], areas, confusions, {}, pixels, {}, ()))
    report = summarise(results, {}, [])
    for s in label_sets:
        confusions = [tree.confusion_chart(settings.out, s.name, *of) for of in product(STAGES, (False, True))]
        for chart in (tree.iou_chart(settings.out, s.name), tree.image_chart(settings.out, s.name), *confusions):
            write_picture(chart, np.zeros((2, 3, 3), np.uint8))
    return settings, report


def write_pictures(path, picture):
    """Write a picture as PNG, whatever the path's ending."""
    write_picture(path.parent / "picture.png", picture)
    (path.parent / "picture.png").rename(path)


def draw_set(folder, shares):
    """Write what a demo writes of images, whose masks are wrong in a number of rows; and their maps."""
    truth = np.full((12, 16), GLAND, np.uint8)

    def draw(file):
        mask = truth.copy()
        mask[: shares[file]] = OTHER
        return truth, truth * 0, truth, mask

    settings, report = draw_run(folder, shares, draw=draw)
    maps = np.zeros((len(FUNC), 12, 16), np.float32)
    maps[GLAND] = 0.5
    for file in shares:
        write_maps(settings.out, "gradcam", file, maps, FUNC)
        write_maps(settings.out, "gradcam_unadjusted", file, maps / 2, FUNC)
    return settings, report
