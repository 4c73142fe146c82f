import base64
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Page, cards, links
from PIL import Image
from viewing import GLAND, OTHER, draw_run, write_pictures

from hsn_v1.adp import FUNC, GLAS, MORPH
from hsn_v1.io.images import embedded_thumbnail
from hsn_v1.labels import STAGES
from hsn_v1.object_metrics import object_sums
from hsn_v1.sets import results_page as page
from hsn_v1.sets.report import summarise
from hsn_v1.sets.settings import SaveTypes
from hsn_v1.show.figures import colourise
from hsn_v1.show.html import link_to

HOSTILE = ("<img src=x onerror=alert(1)>.png", "\"'&lt; #1 %41 ü?.PNG", "a:b.tif")
TRANSPORT = FUNC.codes.index("T")


def written(settings, report):
    page.write_page(settings, report)
    return settings.out / "index.html"


def cells_after(texts, text, count):
    start = texts.index(text)
    return [found for found in texts[start : start + 3 * count] if found.strip()][:count]


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


def test_published_numbers_are_shown_where_there_are_any_and_those_of_objects_follow(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png"])
    truth = np.zeros((12, 16), int)
    truth[2:4] = 1
    objects = {("func", "<components>"): object_sums(truth, truth)}
    results = tuple(replace(result, objects=objects) for result in report.results)
    report = replace(report, results=results, published={"func": {"fIoU": 0.54217157}})
    texts = Page(written(settings, report)).texts
    stages = [f"{report.metrics('func', s)['fIoU']:.4f}" for s in STAGES]
    assert cells_after(texts, "fIoU", 6) == ["fIoU", *stages, "0.5422", "IoU, weighted by 1 / ln pixels"]
    assert cells_after(texts, "<components>", 6) == ["<components>", "all", "1", "1.0000", "1.0000", "0.0000"]
    reason = "Not comparable with the published numbers: 25 of 50 images."
    texts = Page(written(settings, replace(report, published={}, comparison=reason))).texts
    assert "published" not in texts and reason in " ".join(texts)
    assert cells_after(texts, "fIoU", 5) == ["fIoU", *stages, "IoU, weighted by 1 / ln pixels"]


def test_a_caveat_is_at_the_top_images_come_before_charts_and_protocols_are_folded_away(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png"])
    report = replace(report, label_sets=settings.label_sets)
    assert "<b>no result</b>" not in Page(written(settings, report)).texts
    found = Page(written(replace(settings, caveat="<b>no result</b>"), report))
    assert found.texts.index("<b>no result</b>") < found.texts.index("Metrics")
    headings = [text for text in found.texts if text in ("Metrics", "Images", "Classes", "Settings and versions")]
    assert headings == 2 * ["Metrics", "Images", "Classes", "Settings and versions"]  # as links, and as headings
    assert found.texts.count("Benchmarks' protocols") == 2  # as a link, and what unfolds
    tags = [tag for tag, _ in found.tags]
    assert tags.index("details") < tags.index("article")
    assert "open" not in dict(found.tags[tags.index("details")][1])
    assert "mIoU (excluded)" in found.texts


def test_a_sentence_tells_where_no_class_responded(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png", "b.png"])
    unresponsive = [
        replace(result, unresponsive={"func": share}) for result, share in zip(report.results, (0.25, 0), strict=True)
    ]
    texts = "".join(Page(written(settings, replace(report, results=tuple(unresponsive)))).texts)
    sentence = "no class responded in 25.0 % of the pixels; there its mask shows the first class, G.O exocrine gland."
    assert texts.count("no class responded") == texts.count(sentence) == 1


def test_a_card_knows_the_iou_of_classes_in_the_ground_truth_or_the_final_mask(tmp_path):
    truth = np.full((12, 16), GLAND)
    final = truth.copy()
    final[:, 8:] = OTHER
    path = written(*draw_run(tmp_path, ["a.png"], draw=lambda _: (truth, truth * 0 + TRANSPORT, truth, final)))
    (card,) = cards(path)
    assert json.loads(card["data-ranks"]) == {"func": {"": 0.5, "Other": 0, "G.O": 0.5}}
    texts = Page(path).texts
    assert "not in the ground truth" in texts
    assert {"Grad-CAM, mIoU 0.00", "adjusted, mIoU 1.00", "after CRF, mIoU 0.50"} <= set(texts)
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
    assert len(cards(path)) == 1
    assert not [address for address in links(path) if "gt/" in address or "confusion" in address or "IoU" in address]
    found = Page(path)
    assert "mIoU" not in "".join(found.texts)
    assert "share of the pixels of each class" in found.texts
    options = [attributes["value"] for tag, attributes in found.tags if tag == "option"]
    assert options[:2] == ["0", "-1"] and "1" not in options  # the largest share of a class first


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


def test_a_page_of_many_images_loads_them_when_they_are_looked_at(tmp_path):
    settings, report = draw_run(tmp_path, ["0.png"])
    files = [f"{i:03}.png" for i in range(60)]
    many = replace(report, results=tuple(replace(report.results[0], file=file) for file in files))
    path = written(replace(settings, images=tuple(settings.images[0].with_name(file) for file in files)), many)
    assert len(cards(path)) == 60
    images = [attributes for tag, attributes in Page(path).tags if tag == "img" and attributes.get("src")]
    assert len(images) == 60 * (1 + 4)
    assert {attributes["loading"] for attributes in images} == {"lazy"}


def test_a_self_contained_page_holds_all_that_it_shows(tmp_path):
    settings, report = draw_run(tmp_path, ["a.png", "b.png"], (MORPH, FUNC), self_contained=True)
    path = written(settings, report)
    found = Page(path)
    sources = [attributes[key] for _, attributes in found.tags for key in ("src", "srcset") if attributes.get(key)]
    charts = 2 * (1 + 1 + 3 + 3)
    assert len(sources) == 2 * (1 + 2 * 4) + charts
    assert all(source.startswith("data:image/") for source in sources)
    assert all(attributes["href"].startswith(("#", "data:,")) for _, attributes in found.tags if "href" in attributes)
    mask = next(attributes["src"] for _, attributes in found.tags if attributes.get("alt") == "after CRF")
    held, file = io.BytesIO(base64.b64decode(mask.partition(",")[2])), settings.out / "morph" / "ablative_CRF" / "a.png"
    with Image.open(held) as shown, Image.open(file) as whole:
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(whole))


def test_thumbnails_are_small_and_those_of_masks_keep_their_colours(tmp_path):
    labels = np.random.default_rng(2).integers(0, len(FUNC), (30, 40), np.uint8)
    write_pictures(tmp_path / "a.png", colourise(labels, FUNC))
    for is_mask in (False, True):
        address = embedded_thumbnail(tmp_path / "a.png", is_mask, side=8)
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as shown:
            assert shown.size == (8, 6)
            colours = {colour for _, colour in shown.convert("RGB").getcolors()}
        assert (colours <= set(FUNC.colours.values())) == is_mask


# --- In the browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def load(browser):
    """Return a function that opens a page, and fails at the end if the page complained or asked a network."""
    complaints = []

    def load(path):
        opened = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("requestfailed", lambda request: complaints.append(request.url))
        opened.on(
            "request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url)
        )
        opened.goto(path.as_uri())
        return opened

    yield load
    assert complaints == []


@pytest.fixture(scope="module", params=[False, True], ids=["linked", "self-contained"])
def page_of_three(tmp_path_factory, request):
    """Write the page of three images; the wrong in them grows from the second to the third to the first."""
    share = {"a.png": 12, "b.png": 2, "c d#.png": 5}

    def draw(file):
        truth = np.full((12, 16), GLAND)
        truth[:3] = TRANSPORT if file == "b.png" else OTHER
        mask = truth.copy()
        mask[-share[file] :] = OTHER
        return truth, mask, mask, mask

    return written(*draw_run(tmp_path_factory.mktemp("page"), share, draw=draw, self_contained=request.param))


@pytest.fixture
def open_page(load, page_of_three):
    return load(page_of_three)


def files_shown(opened):
    return opened.locator(".card:visible h3").all_text_contents()


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


def middle(opened, panel=".panel >> nth=1", places=(0.1, 0.9)):
    """Return the colours of a panel, the first card's ground truth if none is named, at shares of its height."""
    opened.wait_for_function("[...document.querySelector('.card').querySelectorAll('img')].every(i => i.complete)")
    with Image.open(io.BytesIO(opened.locator(panel).screenshot())) as shown:
        width, height = shown.size
        return [shown.convert("RGB").getpixel((width // 2, round(at * height))) for at in places]


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


def test_a_click_enlarges_an_image_and_keys_go_on(open_page):
    viewer = open_page.get_by_role("dialog")
    assert not viewer.is_visible()
    open_page.locator(".panel").nth(1).click()
    assert viewer.locator("strong").inner_text() == "a.png"
    assert viewer.locator("[aria-pressed=true]").inner_text() == "ground truth"
    other, gland = FUNC.colours["Other"], FUNC.colours["G.O"]
    inside = (0.2, 0.7)  # of the stage, which is higher than the image
    assert middle(open_page, ".stage", inside) == [other, gland]
    viewer.get_by_label("Opacity of the mask").fill("0")
    assert middle(open_page, ".stage", inside) == [(90, 90, 90)] * 2
    viewer.get_by_label("Opacity of the mask").fill("100")
    viewer.locator(".stage").click()
    open_page.keyboard.press("ArrowRight")
    assert viewer.locator("strong").inner_text() == "b.png"
    assert viewer.locator(".place").inner_text() == "2 of 3"
    assert middle(open_page, ".stage", inside) == [FUNC.colours["T"], gland]
    open_page.keyboard.press("ArrowDown")
    assert viewer.locator("[aria-pressed=true]").inner_text() == "Grad-CAM, mIoU 0.89"
    for _ in range(2):
        open_page.keyboard.press("ArrowLeft")
    assert viewer.locator("strong").inner_text() == "c d#.png"  # round the end
    assert "G.O exocrine gland" in viewer.inner_text()
    open_page.keyboard.press("Escape")
    assert not viewer.is_visible()


def test_arrows_go_through_the_images_that_are_left_in_their_order(open_page):
    open_page.get_by_label("Sort by").select_option("1")
    dialog = open_page.get_by_role("dialog")
    for code, expected in (("Other", ["b.png", "a.png", "c d#.png"]), ("T", ["b.png", "b.png", "b.png"])):
        open_page.get_by_label("Images with").select_option(code)
        open_page.locator(".card:visible .panel").first.click()
        seen = []
        for _ in expected:
            seen.append(dialog.locator("strong").inner_text())
            open_page.keyboard.press("ArrowRight")
        assert seen == expected
        open_page.keyboard.press("Escape")


def test_filter_order_and_fade_survive_another_label_set(load, tmp_path):
    share = {"a.png": 8, "b.png": 0, "c.png": 4}

    def draw(file):  # the same indices in both label sets
        truth = np.full((12, 16), 1)
        mask = truth.copy()
        mask[: share[file]] = 2
        return truth, mask, mask, mask

    page_of_both = load(written(*draw_run(tmp_path, share, (MORPH, FUNC), draw=draw)))
    page_of_both.get_by_label("Sort by").select_option("1")
    page_of_both.get_by_label("Images with").select_option(label=MORPH.describe(MORPH.codes[2]))
    page_of_both.get_by_label("Opacity of the masks").fill("30")
    assert files_shown(page_of_both) == ["a.png", "c.png"]
    masks = page_of_both.locator(".card:visible .mask:visible")
    assert masks.first.get_attribute("src").find("/morph/") > 0
    page_of_both.get_by_label("func").check()
    assert masks.first.get_attribute("src").find("/func/") > 0
    assert files_shown(page_of_both) == ["a.png", "c.png"]
    assert masks.first.evaluate("mask => getComputedStyle(mask).opacity") == "0.3"
    assert page_of_both.get_by_label("Sort by").input_value() == "1"
    page_of_both.get_by_label("morph").check()
    assert files_shown(page_of_both) == ["a.png", "c.png"]


def test_lookalikes_are_hatched_in_masks_and_legend(load, tmp_path):
    kinds = [MORPH.codes.index(code) for code in ("E.M.O", "S.M.C")]
    truth = np.repeat(kinds, 96).reshape(12, 16)
    opened = load(written(*draw_run(tmp_path, ["a.png"], (MORPH,), draw=lambda _: (truth, truth, truth, truth))))
    opened.wait_for_function("[...document.querySelector('.card').querySelectorAll('img')].every(i => i.complete)")
    with Image.open(io.BytesIO(opened.locator(".panel").nth(1).screenshot())) as shown:
        upper, lower = np.array_split(np.asarray(shown.convert("RGB"))[4:-4, 4:-4].astype(int), 2)
    assert (upper[:-4] == MORPH.colours["E.M.O"]).all()
    plain = (lower[4:] == MORPH.colours["S.M.C"]).all(axis=-1)
    assert 0.4 < plain.mean() < 0.95 and lower[4:].sum(axis=-1).min() < 100
    hatched = opened.locator(".legend .swatch").evaluate_all("all => all.map(one => /hatching/.test(one.className))")
    assert hatched == [False, True]


def test_nothing_is_wider_than_the_window(load, tmp_path):
    files = ["an image with a very long name " * 4 + ".png", "unbroken" * 25 + ".png"]
    opened = load(written(*draw_run(tmp_path, files, (MORPH, FUNC))))
    wider = "e => !e.closest('.wide, .filters, dialog') && e.getBoundingClientRect().right > innerWidth + 1"
    for width in (400, 700, 1400):
        opened.set_viewport_size({"width": width, "height": 1000})
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(f"[...document.querySelectorAll('main *, header *')].filter({wider}).length") == 0
