"""The viewer in Chromium: a slide of coloured squares with a label map made by hand, looked at as people do."""

import io
import json
import re
import time
import urllib.parse

import cv2
import numpy as np
import pytest
from PIL import Image
from viewing import draw_set, eventually, running, write_results

from hsn_v1.adp import CLASSIFIER_MPP, FUNC, MORPH
from hsn_v1.io.writing import write_picture
from hsn_v1.phantoms.phantom_slide import write_pyramid
from hsn_v1.sets.outputs import write_record
from hsn_v1.show.figures import colourise
from hsn_v1.slide_io import slide
from hsn_v1.tiles import Window

pytestmark = pytest.mark.slow

SIDE, MPP = 1700, 0.5  # px of the slide, and its scale
LABELS = round(SIDE * MPP / CLASSIFIER_MPP)  # side of its label maps, in px
BLOCK = 100  # px of the label map
SLIDE = "a <b>slide & #1.tif"
#: Ten px of the slide: in the middle of blocks, next to their borders, and at the corners.
XS = 1, 240, 245, 1690, 850, 400, 1698, 2, 730, 1215
YS = 1, 5, 5, 1690, 850, 1200, 2, 1698, 480, 700
POINTS = list(zip(XS, YS, strict=True))


def blocks(label_set, truth=False):
    side = -(-LABELS // BLOCK)
    numbers = np.arange(side * side).reshape(side, side) * 7 % (len(label_set) + 1)
    if truth:
        numbers = np.where(numbers == 2, 1, numbers)
    return np.kron(numbers.astype(np.uint8), np.ones((BLOCK, BLOCK), np.uint8))[:LABELS, :LABELS]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    source = folder / "slides" / SLIDE
    squares = np.random.default_rng(0).integers(0, 255, (SIDE // 20, SIDE // 20, 3), np.uint8)
    pixels = cv2.GaussianBlur(np.kron(squares, np.ones((20, 20, 1), np.uint8)), (0, 0), 4)
    source.parent.mkdir()
    write_pyramid(source, (pixels[top : top + 256] for top in range(0, SIDE, 256)), SIDE, MPP)
    labels = {"morph": blocks(MORPH), "func": blocks(FUNC)}
    changes = {"mpp": MPP, "height": SIDE, "width": SIDE, "notes": ["<script>alert(1)</script>"]}
    changes["caveat"] = "a classifier of phantoms"
    write_results(folder / "out" / "segmented" / SLIDE, source, labels, **changes)
    for number in range(30):
        name, labels = f"other {number}.tif", {"func": blocks(FUNC) * (number % 2)}
        write_results(folder / "out" / "segmented" / name, source, labels, **changes | {"input": name})
    write_picture(folder / "truth" / "func" / f"{source.stem}.png", colourise(blocks(FUNC, truth=True), FUNC))
    return folder


@pytest.fixture(scope="module")
def address(results):
    with running(results / "out", results / "truth") as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def tab(browser):
    """Open a page that stays open, and return it with what it complains of."""
    opened, complaints = browser.new_page(accept_downloads=True), []
    ours = "willReadFrequently"  # a hint, for the tests read what is painted
    opened.on("console", lambda message: ours in message.text or complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request", lambda r: r.url.startswith(("http://127.0.0.1:", "data:", "blob:")) or complaints.append(r.url)
    )
    opened.on("response", lambda answer: answer.status < 400 or complaints.append(f"{answer.status} {answer.url}"))
    yield opened, complaints
    opened.close()


@pytest.fixture
def page(tab):
    opened, complaints = tab
    opened.set_viewport_size({"width": 1400, "height": 900})
    yield opened
    assert complaints == []


def open_slide(page, address, fragment=""):
    page.goto(f"{address}/slide/segmented/{urllib.parse.quote(SLIDE)}{fragment}")
    eventually(lambda: page.evaluate("window.viewed?.idle"))
    page.evaluate("viewed.left.viewer.viewport.goHome(true)")  # the page is open since the test before
    rest(page)


def rest(page):
    """Wait until nothing moves and all tiles have come."""
    eventually(lambda: page.evaluate("window.viewed?.idle"))
    before = None

    def same():
        nonlocal before
        last, before = before, page.evaluate("JSON.stringify([viewed.left.place, viewed.idle])")
        time.sleep(0.1)
        return last == before and "true" in before

    eventually(same)


def eventually_beside(page):
    """Wait until two panes are side by side."""
    eventually(lambda: page.evaluate("viewed.right?.isOpen && viewed.idle"))


def place(page, pane="left"):
    """Return which part of the slide a pane shows: x, y and scale."""
    return page.evaluate(f"({{...viewed.{pane}.place}})")


def on_screen(page, x, y, pane="left"):
    return page.evaluate(
        """([x, y, pane]) => {
          const {place, element} = viewed[pane], box = element.getBoundingClientRect();
          return [box.left + (x - place.x) * place.scale, box.top + (y - place.y) * place.scale];
        }""",
        [x, y, pane],
    )


def painted(page, x, y, pane="left"):
    """Return the mask's own RGBA at a px of the slide."""
    return page.evaluate(
        """([x, y, pane]) => {
          const {place, context} = viewed[pane];
          const at = [x - place.x, y - place.y].map((n) => Math.floor(n * place.scale * devicePixelRatio));
          return [...context.getImageData(...at, 1, 1).data];
        }""",
        [x, y, pane],
    )


def class_at(x, y, label_set=FUNC):
    return int(blocks(label_set)[int(y * LABELS / SIDE), int(x * LABELS / SIDE)])


def block_of(index, label_set=FUNC):
    """Return the px of the slide in the middle of a block of a class."""
    row, column = np.argwhere(blocks(label_set)[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK] == index)[0]
    return tuple((n * BLOCK + BLOCK // 2) * SIDE / LABELS for n in (column, row))


def location(page):
    return page.evaluate("location.href")


def values(page):
    return page.evaluate("({...viewed.state.values, off: [...viewed.state.values.off].sort()})")


@pytest.mark.parametrize("zoomed", [False, True])
def test_the_class_under_the_cursor_at_ten_known_points(page, address, zoomed):
    open_slide(page, address, "#set=func")
    for x, y in POINTS:
        if zoomed:
            page.evaluate("([x, y]) => viewed.left.look([x, y, 500])", [x, y])
        left, top = on_screen(page, x + 0.5, y + 0.5)
        page.mouse.move(left, top)
        index = class_at(x + 0.5, y + 0.5)
        expected = FUNC.name_of(FUNC.codes[index]) if index < len(FUNC) else "no tissue"
        eventually(lambda expected=expected: page.locator("#tip").inner_text() == expected, 10)


def test_zoom_to_full_resolution_shows_the_slides_own_pixels(page, address, results):
    open_slide(page, address, "#mask=0")
    page.keyboard.press("f")
    rest(page)
    where = place(page)
    assert where["scale"] == pytest.approx(1, rel=1e-3)
    box = page.locator("#left").bounding_box()
    with Image.open(io.BytesIO(page.locator("#left").screenshot())) as picture:
        shown = np.asarray(picture.convert("RGB").crop((300, 200, 600, 500))).astype(int)
    with slide.open_slide(results / "slides" / SLIDE) as opened:
        window = opened.read(Window(round(where["y"]) + 200, round(where["x"]) + 300, 300, 300), opened.mpp)
    assert box["width"] > 600 and abs(shown - window).mean() < 8


def test_masks_are_painted_faded_and_outlined(page, address):
    open_slide(page, address, "#set=func&fade=50")
    x, y = block_of(1)
    assert painted(page, x, y) == [*FUNC.colours[FUNC.codes[1]], 255]
    assert painted(page, *block_of(len(FUNC)))[3] == 0  # no tissue
    assert page.evaluate("getComputedStyle(viewed.left.canvas).opacity") == "0.5"
    page.get_by_label("Opacity in percent").fill("20")
    assert page.evaluate("getComputedStyle(viewed.left.canvas).opacity") == "0.2"
    page.get_by_label("Outlines").check()
    rest(page)
    assert painted(page, x, y)[3] == 0
    edge = round(x * LABELS / SIDE / BLOCK) * BLOCK * SIDE / LABELS
    assert any(painted(page, edge + step / 2, y)[3] > 0 for step in range(-4, 5))
    page.keyboard.press("o")
    page.keyboard.press("m")
    assert painted(page, x, y)[3] == 0
    page.keyboard.press("m")
    assert painted(page, x, y)[3] == 255


def test_classes_are_switched_by_mouse_and_keys(page, address):
    open_slide(page, address, "#set=func")
    names = page.locator(".legend tbody td:first-child").all_inner_texts()
    counts = np.bincount(blocks(FUNC).ravel(), minlength=6)[:5]
    order = sorted(range(2, 5), key=lambda c: -counts[c]) + sorted(range(2), key=lambda c: -counts[c])
    assert [name.strip() for name in names] == [FUNC.name_of(FUNC.codes[c]) for c in order]
    first, second = order[:2]
    page.get_by_role("checkbox", name=FUNC.name_of(FUNC.codes[first])).uncheck()
    assert painted(page, *block_of(first))[3] == 0 and painted(page, *block_of(second))[3] == 255
    page.keyboard.press("2")
    assert painted(page, *block_of(second))[3] == 0
    page.keyboard.press("a")
    assert painted(page, *block_of(first))[3] == painted(page, *block_of(second))[3] == 255
    page.get_by_role("button", name=f"Only {FUNC.name_of(FUNC.codes[first])}").click()
    assert [painted(page, *block_of(c))[3] for c in range(5)] == [255 if c == first else 0 for c in range(5)]
    page.keyboard.press("Shift+Digit2")
    assert [painted(page, *block_of(c))[3] for c in range(5)] == [255 if c == second else 0 for c in range(5)]
    page.keyboard.press("n")
    assert [painted(page, *block_of(c))[3] for c in range(5)] == [0] * 5


def test_areas_shares_and_scores_are_listed(page, address):
    open_slide(page, address, "#set=func")
    eventually(lambda: page.locator(".score").count())
    rows = {
        row.split("\t")[0].strip(): row.split("\t")[1:] for row in page.locator(".legend tbody tr").all_inner_texts()
    }
    labels, truth = blocks(FUNC), blocks(FUNC, truth=True)
    tissue = np.isin(labels, [1, 2, 3, 4]).sum()
    area, share, iou = (text.strip() for text in rows[FUNC.name_of("T")][:3])
    assert area == f"{(labels == 4).sum() * CLASSIFIER_MPP**2 / 1e6:.2f} mm²"
    assert share == f"{100 * (labels == 4).sum() / tissue:.0f}"
    assert iou == "1.00"
    other = ((labels == 1) & (truth == 1)).sum() / ((labels == 1) | (truth == 1)).sum()
    assert rows[FUNC.name_of("Other")][2].strip() == f"{other:.2f}"
    assert page.locator(".notes p").all_inner_texts() == ["a classifier of phantoms", "<script>alert(1)</script>"]


def test_a_link_restores_the_very_view(page, address, browser):
    open_slide(page, address, "#set=func")
    page.keyboard.press("f")
    for key in ("ArrowRight", "ArrowDown", "+", "[", "[", "o", "p", "c", "2", "1"):
        page.keyboard.press(key)
    eventually(lambda: page.evaluate("viewed.right?.isOpen"))
    rest(page)
    before = values(page) | {"place": place(page)}
    eventually(lambda: re.search("off.func=.*,.*&view", urllib.parse.unquote(location(page))))
    time.sleep(0.5)
    link = location(page)
    again = browser.new_page(viewport={"width": 1400, "height": 900})
    again.goto(link)
    rest(again)
    after = values(again) | {"place": place(again)}
    again.close()
    for key in ("set", "layer", "outline", "compare", "safe", "off", "mask"):
        assert after[key] == before[key], key
    assert after["compare"] == "func|truth" and len(after["off"]) == 2 and after["fade"] == pytest.approx(0.4)
    for key in ("x", "y", "scale"):
        assert after["place"][key] == pytest.approx(before["place"][key], abs=1.5, rel=0.005)


def test_a_link_that_is_pasted_into_the_open_page_moves_it(page, address):
    open_slide(page, address, "#set=func")
    page.evaluate("location.hash = 'set=morph&view=400,500,300&on.morph=M.M'")
    rest(page)
    assert values(page)["set"] == "morph" and len(values(page)["off"]) == len(MORPH) - 1
    assert place(page)["scale"] == pytest.approx(page.locator("#left").bounding_box()["width"] / 300, rel=0.01)


def test_side_by_side_moves_together(page, address):
    open_slide(page, address, "#set=func")
    page.get_by_label("Compare with").select_option("func|truth")
    eventually_beside(page)
    x, y = block_of(2)
    assert painted(page, x, y) == [*FUNC.colours[FUNC.codes[2]], 255]
    eventually(lambda: painted(page, x, y, "right") == [*FUNC.colours[FUNC.codes[1]], 255])
    page.mouse.move(*on_screen(page, 500, 500, "right"))
    page.mouse.wheel(0, -600)
    rest(page)
    left, right = place(page), place(page, "right")
    assert left == pytest.approx(right, rel=1e-6) and left["scale"] > 0.4
    page.keyboard.press("+")
    rest(page)
    assert place(page, "right") == pytest.approx(place(page), rel=1e-6)
    page.keyboard.press("c")
    assert page.locator("#right").is_hidden()


def test_compared_panes_keep_one_scale_when_the_window_changes(page, address):
    open_slide(page, address, "#set=func&compare=func|truth")
    eventually_beside(page)
    for width, height in ((900, 800), (700, 900), (1400, 500)):
        page.set_viewport_size({"width": width, "height": height})
        page.keyboard.press("+")
        rest(page)
        assert place(page, "right") == pytest.approx(place(page), rel=1e-6)
        page.set_viewport_size({"width": width + 130, "height": height - 90})
        rest(page)
        assert place(page, "right") == pytest.approx(place(page), rel=1e-6)


def test_keys_that_are_typed_with_altgr(page, address):
    open_slide(page, address, "#set=func")
    typed = "{key: '[', code: 'Digit8', bubbles: true, cancelable: true"
    ways = "modifierAltGraph: true", "ctrlKey: true, altKey: true, modifierAltGraph: true", "altKey: true"
    for way in ways:
        page.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {typed}, {way}}}))")
    assert values(page)["fade"] == 0.3 and values(page)["off"] == []
    for way in ("ctrlKey: true", "metaKey: true"):
        page.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {typed}, {way}}}))")
    assert values(page)["fade"] == 0.3


def test_every_tab_stop_has_a_name_and_shows_its_focus(page, address):
    open_slide(page, address, "#set=func")
    page.locator("#back").focus()
    names = []
    for _ in range(30):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(() => { const one = document.activeElement; return one === document.body ? '' : [one.role ?? '', "
            "one.ariaLabel || one.title || one.textContent || one.labels?.[0]?.textContent].join(' '); })()"
        )
        names.append(name)
        if name.startswith("application"):
            shown = page.evaluate("getComputedStyle(document.querySelector('#left'), '::after').borderTopWidth")
            assert shown == "3px" and SLIDE in name
    assert len({name for name in names if name.startswith("application")}) == 1
    assert all(name.strip() for name in names if name)
    assert page.locator("th").count() == page.locator("th:not(:empty)").count() == 4


def test_nothing_moves_by_itself_for_who_prefers_that(browser, address):
    opened = browser.new_page(viewport={"width": 900, "height": 700}, reduced_motion="reduce")
    open_slide(opened, address, "#set=func")
    opened.keyboard.press("f")
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))"
    opened.evaluate(frames)
    assert place(opened)["scale"] == pytest.approx(1, rel=1e-3)
    opened.close()


def test_the_rest_of_the_keyboard(page, address):
    open_slide(page, address, "#set=func")
    page.keyboard.press("t")
    assert values(page)["set"] == "morph"
    page.keyboard.press("Shift+T")
    assert values(page)["set"] == "func"
    page.keyboard.press(".")
    assert values(page)["layer"] == "truth"
    rest(page)
    assert painted(page, *block_of(2)) == [*FUNC.colours[FUNC.codes[1]], 255]
    page.keyboard.press(",")
    scale = place(page)["scale"]
    page.keyboard.press("-")
    rest(page)
    assert place(page)["scale"] < scale
    page.keyboard.press("0")
    rest(page)
    assert place(page)["scale"] == pytest.approx(scale, rel=0.01)
    before = place(page)
    for key in ("+", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        rest(page)
    moved = place(page)
    assert len([name for name in before if before[name] != moved[name]]) == 3, (before, moved)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("l")
    eventually(lambda: page.evaluate("navigator.clipboard.readText()") == page.url)
    page.keyboard.press("h")
    assert page.locator("#keys").is_visible() and "full resolution" in page.locator("#keys").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#keys").is_hidden()
    eventually(lambda: page.locator("#next").get_attribute("href"))  # the page learns of its neighbours last
    page.keyboard.press("j")
    page.wait_for_url(lambda url: "other%200.tif" in url)
    rest(page)
    eventually(lambda: page.locator("#previous").get_attribute("href"))
    page.keyboard.press("k")
    page.wait_for_url(lambda url: "%3Cb%3Eslide" in url)
    rest(page)
    page.keyboard.press("i")
    page.wait_for_url(lambda url: "/slide/" not in url)
    eventually(lambda: page.locator(".row").count())


def test_a_key_to_the_next_slide_counts_while_the_view_still_settles(page, address):
    open_slide(page, address, "#set=func")
    eventually(lambda: page.locator("#next").get_attribute("href"))

    def late(route):
        time.sleep(0.6)  # longer than the page takes to write its link
        route.continue_()

    page.route("**/slide/segmented/other*", late)
    page.keyboard.press("]")
    page.keyboard.press("j")
    page.wait_for_url(lambda url: "other%200.tif" in url)
    rest(page)
    page.go_back()
    rest(page)
    assert values(page)["fade"] == 0.7


def test_a_class_alone_is_stepped_through_from_its_maps_to_its_mask(page, tmp_path):
    write_record(*draw_set(tmp_path, {"a.png": 6}))
    with running(tmp_path / "out") as port:
        page.goto(f"http://127.0.0.1:{port}/slide/a%20set/a.png#layer=GradCAM")
        rest(page)
        page.get_by_role("button", name=f"Only {FUNC.name_of('G.O')}").click()
        seen = []
        for _ in range(5):
            page.keyboard.press(".")
            rest(page)
            title = page.get_by_label("Layer", exact=True).locator("option:checked").inner_text()
            seen.append((title, painted(page, 1.5, 1.5)[3], painted(page, 1.5, 10.5)[3]))
    cam, adjusted = (round((255 * value) ** 0.5) for value in (64, 128))
    name = FUNC.name_of("G.O")
    assert seen == [
        (f"Grad-CAM of {name}", cam, cam),
        (f"adjusted map of {name}", adjusted, adjusted),
        ("adjusted", 255, 255),
        ("after CRF", 0, 255),
        ("ground truth", 255, 255),
    ]


def test_colours_for_colour_blind_readers(page, address):
    open_slide(page, address, "#set=func&fade=100")
    page.keyboard.press("p")
    assert page.get_by_label("Colour-blind safe").is_checked()
    (safe,) = [one["safe"] for one in page.evaluate("viewed.set('func').classes") if one["code"] == "T"]
    assert painted(page, *block_of(4)) == [*safe, 255] != [*FUNC.colours["T"], 255]


def test_a_picture_with_legend_and_scale_bar_is_saved(page, address):
    open_slide(page, address, "#set=func&compare=morph|labels")
    eventually_beside(page)
    with page.expect_download() as saved:
        page.keyboard.press("s")
    assert saved.value.suggested_filename.endswith("_func.png")
    with Image.open(saved.value.path()) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    width = page.locator("#stage").bounding_box()["width"]
    assert pixels.shape[1] > width and pixels.shape[0] > 900
    below = pixels[880:].reshape(-1, 3)
    for colour in (FUNC.colours["T"], FUNC.colours["G.O"], MORPH.colours["M.M"]):  # swatches of both legends
        assert (below == colour).all(axis=1).sum() > 100
    lines = (pixels[-60:] == (163, 49, 42)).all(axis=-1)  # the caveat
    assert lines.sum() > 50


def test_the_index_sorts_filters_and_renders_rows_in_sight_only(page, address):
    page.goto(f"{address}/")
    eventually(lambda: page.locator(".row").count())
    assert page.locator("#count").inner_text() == "31 of 31"
    assert page.locator(".row").count() < 20
    assert page.locator(".row h2").first.inner_text() == SLIDE
    page.mouse.wheel(0, 100_000)
    eventually(lambda: "other 29.tif" in page.locator(".row h2").all_inner_texts())
    page.get_by_label("Label set").select_option("func")
    page.get_by_label("Class").select_option("T")
    assert page.locator("#count").inner_text() == "16 of 31"
    page.get_by_label("at least").fill("99")
    assert page.locator("#count").inner_text() == "0 of 31"
    page.get_by_label("at least").fill("0")
    page.get_by_label("Class").select_option("")
    search = page.get_by_role("searchbox", name="Name")
    search.fill("OTHER 1")
    assert page.locator("#count").inner_text() == "11 of 31"
    eventually(lambda: page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth)"))
    search.blur()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "other%201.tif" in url)
    rest(page)


def test_both_pages_fit_a_narrow_window(page, address):
    page.set_viewport_size({"width": 700, "height": 900})
    for fragment in ("#set=func", "#set=morph&compare=func|truth"):
        open_slide(page, address, fragment)
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
        assert page.locator("#stage").bounding_box()["height"] > 350
    page.goto(f"{address}/")
    eventually(lambda: page.locator(".row").count())
    assert page.evaluate("document.documentElement.scrollWidth") <= 700


def test_what_is_deleted_while_shown_is_said(browser, results, address):
    folder = write_results(
        results / "out" / "segmented" / "gone.tif",
        results / "slides" / SLIDE,
        {"func": blocks(FUNC)},
        height=SIDE,
        width=SIDE,
    )
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.goto(f"{address}/slide/segmented/gone.tif#view=850,850,1700")
    rest(opened)
    next((folder / "func").glob("*.ome.tif")).unlink()
    opened.goto(f"{address}/slide/segmented/gone.tif")
    opened.reload()
    eventually(lambda: "gone" in opened.locator("#toast").inner_text())
    (folder / "run.json").unlink()
    opened.reload()
    eventually(lambda: "Cannot be shown" in opened.locator("#panel").inner_text())
    assert json.loads(opened.evaluate("fetch('/api/collections').then((answer) => answer.text())"))
    opened.close()
