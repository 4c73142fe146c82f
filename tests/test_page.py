import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Page, links
from PIL import Image

from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.evaluate import confusion_matrix
from hsn_v1.files.writing import write_picture
from hsn_v1.hsn_v1 import STAGES
from hsn_v1.object_metrics import object_sums
from hsn_v1.sets import page
from hsn_v1.sets.outputs import mask_name, write_confusions, write_ious, write_masks
from hsn_v1.sets.report import ImageResult, summarise
from hsn_v1.sets.settings import SaveTypes, Settings
from hsn_v1.show.figures import colourise
from hsn_v1.show.html import link_to

HOSTILE = ("<img src=x onerror=alert(1)>.png", "\"'&lt; #1 %41 ü?.PNG", "a:b.tif")
OTHER, GLAND, TRANSPORT = FUNC.indices(("Other", "G.O", "T"))


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
        write_ious(settings.out, report.stages(s.name), s)
        for stage, confusion in report.stages(s.name).items():
            write_confusions(settings.out, confusion, s, stage)
    return settings, report


def write_pictures(path, picture):
    """Write a picture as PNG, whatever the path's ending."""
    write_picture(path.parent / "picture.png", picture)
    (path.parent / "picture.png").rename(path)


def written(settings, report):
    page.write_page(settings, report)
    return settings.out / "index.html"


def cards(path):
    return [attributes for tag, attributes in Page(path).tags if attributes.get("class") == "card"]


def test_text_of_file_names_is_escaped_and_links_lead_to_files(tmp_path):
    settings, report = draw_run(tmp_path, HOSTILE)
    failures = {"<b>.png": "<script>alert(2)</script>"}
    path = written(settings, replace(report, failures=failures, notes=("<i>note</i>",)))
    found = Page(path)
    assert not [tag for tag, attributes in found.tags if "onerror" in attributes or tag in ("b", "i")]
    assert sum(tag == "script" for tag, _ in found.tags) == 2
    for text in (*HOSTILE, *failures, *failures.values(), "<i>note</i>"):
        assert text in found.texts
    addresses = links(path)
    assert {address for address, exists in addresses.items() if not exists} == set()
    # An image, its ground truth and three masks for each name; a colon would be read as a scheme.
    assert sum(address.count("a%3Ab.tif") for address in addresses) == 5


def test_nothing_is_asked_of_a_network(tmp_path):
    path = written(*draw_run(tmp_path, ["a.png"], (MORPH, FUNC)))
    assert not [address for address in links(path) if ":" in address or address.startswith("/")]
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text and "@import" not in text


def test_a_link_to_another_drive_is_absolute(tmp_path, monkeypatch):
    def relpath(*_):
        raise ValueError("path is on another mount")

    monkeypatch.setattr(os.path, "relpath", relpath)
    assert link_to(tmp_path / "a #1.png", Path("out")) == f"{tmp_path.as_uri()}/a%20%231.png"


def test_metrics_stand_beside_published_numbers_and_those_of_objects_follow(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png"], published={"func": {"fIoU": 0.54217157}})
    truth = np.zeros((12, 16), int)
    truth[2:4] = 1
    report = replace(report, objects={"func": {"<components>": {"a.png": object_sums(truth, truth)}}})
    texts = Page(written(settings, report)).texts
    start = texts.index("fIoU")
    values = [text for text in texts[start : start + 5] if text.strip()]
    assert values == ["fIoU", *(f"{report.metrics('func', s)['fIoU']:.4f}" for s in STAGES), "0.5422"]
    start = texts.index("<components>")
    values = [text for text in texts[start : start + 12] if text.strip()][:6]
    assert values == ["<components>", "all", "1", "1.0000", "1.0000", "0.0000"]


def test_a_card_knows_the_iou_of_classes_in_the_ground_truth_or_the_final_mask(tmp_path):
    truth = np.full((12, 16), GLAND)
    final = truth.copy()
    final[:, 8:] = OTHER
    path = written(*draw_run(tmp_path, ["a.png"], draw=lambda _: (truth, truth * 0 + TRANSPORT, truth, final)))
    (card,) = cards(path)
    assert json.loads(card["data-iou"]) == {"": 0.5, "Other": 0, "G.O": 0.5}
    texts = Page(path).texts
    assert "not in the ground truth" in texts
    assert {"after GradCAM, mIoU 0.00", "after Adjust, mIoU 1.00", "after CRF, mIoU 0.50"} <= set(texts)
    options = [attributes["value"] for tag, attributes in Page(path).tags if tag == "option"]
    assert options == ["0", "1", "-1", "", "Other", "G.O"]
    assert "T transport vessel" in texts  # in the legend, as the first stage has it
    assert "G.N endocrine gland" not in texts


def test_colours_of_no_class_are_in_the_legend_only_where_there_are_unlabelled_pixels(tmp_path):
    truth = np.zeros((12, 16), int)
    for name, label in (("without", 0), ("with", len(FUNC))):
        unlabelled = truth + label
        path = written(*draw_run(tmp_path / name, ["a.png"], draw=lambda _, t=unlabelled: (t, truth, truth, truth)))
        assert ("G.X undifferentiated gland" in Page(path).texts) == (name == "with")


def test_without_ground_truth_images_and_masks_remain(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png"], (MORPH, GLAS))
    results = [replace(result, confusions={}, pixels={}) for result in report.results]
    path = written(replace(settings, truth=None), summarise(results, {}, []))
    assert len(cards(path)) == 2
    assert not [address for address in links(path) if "gt/" in address or "confusion" in address or "IoU" in address]
    found = Page(path)
    assert "mIoU" not in "".join(found.texts)
    assert "share of the pixels of each class" in found.texts
    assert not [attributes for tag, attributes in found.tags if tag == "option" and attributes["value"] == "-1"]


def test_what_a_run_did_not_write_is_left_out(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png"])
    shutil.rmtree(settings.out / "func")
    no_masks = replace(settings, save=SaveTypes(masks=False))
    path = written(no_masks, report)
    assert len(cards(path)) == 1  # with its ground truth
    assert all(links(path).values())
    results = [replace(result, areas={}, confusions={}, pixels={}) for result in report.results]
    path = written(replace(no_masks, truth=None, run_level=1), summarise(results, {}, []))
    found = Page(path)
    assert {"Images", "Metrics", "Classes"}.isdisjoint(found.texts)
    assert "1.214 microns per pixel (down_fac 1)" in found.texts


@pytest.mark.slow
def test_a_page_of_many_images_loads_them_when_they_are_looked_at(tmp_path):
    settings, report = draw_run(tmp_path, ["0.png"], (MORPH, FUNC))
    files = [f"{i:03}.png" for i in range(500)]
    many = replace(
        report,
        files=tuple(files),
        results=tuple(replace(report.results[0], file=file) for file in files),
    )
    path = written(replace(settings, images=tuple(settings.images[0].with_name(file) for file in files)), many)
    assert len(cards(path)) == 1000
    pictures = [attributes for tag, attributes in Page(path).tags if tag == "img"]
    assert len(pictures) > 9000
    assert {attributes["loading"] for attributes in pictures} == {"lazy"}


@pytest.fixture(scope="module")
def browser():
    found = [
        path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))
    ]
    if not found:
        pytest.skip("no Chromium: install one (Debian: apt-get install chromium) to test the results page in it")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install --group dev")
    quiet = ("quic", "gpu", "background-networking", "component-update", "sync")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
        browser = started.chromium.launch(executable_path=found[0], args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Open the page of three images; the wrong in them grows from the second to the third to the first."""
    share = {"a.png": 12, "b.png": 2, "c d#.png": 5}

    def draw(file):
        truth = np.full((12, 16), GLAND)
        truth[:3] = TRANSPORT if file == "b.png" else OTHER
        mask = truth.copy()
        mask[-share[file] :] = OTHER
        return truth, mask, mask, mask

    path = written(*draw_run(tmp_path, share, draw=draw))
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("requestfailed", lambda request: complaints.append(request.url))
    opened.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    assert complaints == []
    opened.close()


def files_shown(opened):
    return opened.locator(".card:visible h3").all_text_contents()


@pytest.mark.slow
def test_sorting_and_filtering(open_page):
    assert files_shown(open_page) == ["a.png", "b.png", "c d#.png"]
    open_page.get_by_label("Sort by").select_option(label="IoU after CRF, lowest first")
    assert files_shown(open_page) == ["a.png", "c d#.png", "b.png"]
    open_page.get_by_label("Sort by").select_option(label="IoU after CRF, highest first")
    assert files_shown(open_page) == ["b.png", "c d#.png", "a.png"]
    open_page.get_by_label("Images with").select_option(label="T transport vessel")
    assert files_shown(open_page) == ["b.png"]
    assert open_page.locator("output:visible").inner_text() == "1 of 3 images"
    open_page.get_by_label("Images with").select_option("")
    open_page.get_by_label("Sort by").select_option("0")
    assert files_shown(open_page) == ["a.png", "b.png", "c d#.png"]


def middle(opened):
    """Return the colours of the first card's ground truth, a quarter from above and from below."""
    opened.wait_for_function("[...document.querySelector('.card').querySelectorAll('img')].every(i => i.complete)")
    with Image.open(io.BytesIO(opened.locator(".panel").nth(1).screenshot())) as picture:
        width, height = picture.size
        return [picture.convert("RGB").getpixel((width // 2, round(at * height))) for at in (0.1, 0.9)]


@pytest.mark.slow
def test_masks_fade_and_classes_are_switched_off(open_page):
    image, other, gland = (90, 90, 90), FUNC.colours["Other"], FUNC.colours["G.O"]
    assert middle(open_page) == [other, gland]
    switch = open_page.get_by_role("checkbox", name="G.O exocrine gland")
    switch.focus()
    open_page.keyboard.press("Space")
    assert middle(open_page) == [other, image]
    open_page.get_by_role("button", name="hide all").click()
    assert middle(open_page) == [image, image]
    open_page.get_by_role("button", name="show all").click()
    assert middle(open_page) == [other, gland]
    fade = open_page.get_by_label("Opacity of the masks")
    fade.fill("0")
    assert middle(open_page) == [image, image]
    fade.fill("50")
    np.testing.assert_allclose(middle(open_page), (np.array([other, gland]) + image) / 2, atol=1)
