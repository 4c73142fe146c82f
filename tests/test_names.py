"""Names that mean something elsewhere - to a browser, a spreadsheet, a shell - are names and nothing more."""

import json
import os
from dataclasses import replace
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from helpers import NAMES, Page

from hsn_v1.adp import FUNC
from hsn_v1.show.gallery import Card, Gallery, Layer, Legend, LegendEntry, View
from hsn_v1.show.html import Table, link_to, render
from hsn_v1.slide_io.label_maps import LabelMapInfo, write_areas, write_label_map
from hsn_v1.slide_io.polygons import write_polygons
from hsn_v1.tiles import Window

READABLE = [name for name in NAMES if "\udcff" not in name]  # what a file of classes, which is UTF-8, can hold


@pytest.mark.parametrize("name", [*NAMES, "javascript:alert(1)", "a%2e#b?c", "//host/x"])
def test_links_lead_to_the_file_of_that_name(tmp_path, name):
    path = tmp_path / "in" / name.lstrip("/")
    link = link_to(path, tmp_path / "out")
    assert (address := urlsplit(link)).path == link and not address.scheme and not address.netloc
    target = os.fsencode(tmp_path / "out") + b"/" + unquote_to_bytes(link)
    assert os.path.normpath(target) == os.path.normpath(os.fsencode(path))


@pytest.mark.parametrize("name", NAMES)
def test_pages_show_names_as_text(tmp_path, name):
    view = View([Layer(name, link_to(tmp_path / name, tmp_path), name)], {name: 0.5}, note=name, files={name: "x"})
    cards = [Card(name, link_to(tmp_path / name, tmp_path), 1, 1, {name: view}, (name,))]
    legend = Legend(name, {name: LegendEntry(name, name, (1, 2, 3), (0, 0, 0), 0, 1)})
    gallery = Gallery([legend], cards, name, name, (name,), has_totals=False, note=name)
    table = Table("", ("input", "status"), [[name, name]], words=2)
    path = tmp_path / "index.html"
    shown = {"title": name, "caveat": name, "failures": {name: name}, "facts": {"classifier": name}}
    page = render("segmented.html", table=table, gallery=gallery, **shown)
    path.write_bytes(page.encode(errors="replace"))
    shown = Page(path)
    expected = name.encode(errors="replace").decode()
    assert sum(expected in text for text in shown.texts) >= 15
    (ranks,) = (attributes["data-ranks"] for _, attributes in shown.tags if "data-ranks" in attributes)
    assert json.loads(ranks) == {name: {name: 0.5}}
    assert [tag for tag, _ in shown.tags].count("script") == 2  # of the page's own


@pytest.mark.slow
@pytest.mark.parametrize("name", READABLE)
def test_polygons_and_areas_hold_classes_of_any_name(tmp_path, name):
    labels = np.zeros((8, 8), np.uint8)
    label_set = replace(FUNC, names={FUNC.codes[1]: name}, background=None)
    labels[2:5, 2:5] = 1
    info = LabelMapInfo(8, 8, 1.0, label_set)
    pixels = write_label_map(tmp_path / "x.ome.tif", lambda window: labels[window.within(Window(0, 0, 8, 8))], info)
    dropped = write_polygons(tmp_path / "x.geojson", tmp_path / "x.ome.tif", info, 1, 0)
    features = json.loads((tmp_path / "x.geojson").read_text("utf-8"))["features"]
    assert label_set.describe(FUNC.codes[1]) in {each["properties"]["classification"]["name"] for each in features}
    assert not dropped.any()
    write_areas(tmp_path / "x.csv", pixels, info)
    assert b"\n=" not in (tmp_path / "x.csv").read_bytes()
