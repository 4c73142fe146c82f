"""The viewer's server: what it sends, what it refuses, and that it lives on."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from viewing import draw_set, get, get_json, running, write_results

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.errors import InputError
from hsn_v1.io.writing import write_picture
from hsn_v1.phantoms.phantom_slide import write_pyramid
from hsn_v1.sets.outputs import write_record
from hsn_v1.view import pictures
from hsn_v1.view.guard import Guard
from hsn_v1.view.server import listen

RNG = np.random.default_rng(16)
WHERE = {"layer": "labels", "level": 0, "row": 0, "column": 0}
NAMES = "a slide.png", "<b>&'\"#1 %41 ü?\n.png"


def blocks_of_colour(height, width):
    """Draw what survives JPEG: colours that change every 20 px."""
    return np.kron(RNG.integers(0, 255, (height // 20, width // 20, 3), np.uint8), np.ones((20, 20, 1), np.uint8))


def draw_labels(height, width, label_set):
    blocks = RNG.integers(0, len(label_set) + 1, (-(-height // 40), -(-width // 40)), np.uint8)
    return np.kron(blocks, np.ones((40, 40), np.uint8))[:height, :width]


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Two segmented images of 700 x 1100 px, by their names: image, and label maps."""
    folder, found = tmp_path_factory.mktemp("results"), {}
    for name in NAMES:
        image = blocks_of_colour(700, 1100)
        write_picture(folder / "slides" / name, image)
        labels = {label_set.name: draw_labels(700, 1100, label_set) for label_set in (MORPH, FUNC)}
        write_results(folder / "out" / "segmented" / name, folder / "slides" / name, labels)
        found[name] = image, labels
    return folder, found


@pytest.fixture(scope="module")
def shown(segmented):
    """Serve what was segmented, as it is; return the port."""
    with running(segmented[0] / "out") as port:
        yield port


@pytest.fixture
def results(segmented, tmp_path):
    """Return a folder with a copy of what was segmented, for tests to spoil."""
    shutil.copytree(segmented[0], tmp_path, dirs_exist_ok=True)
    for name in NAMES:
        path = tmp_path / "out" / "segmented" / name / "run.json"
        record = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(record | {"source": str(tmp_path / "slides" / name)}), "utf-8")
    return tmp_path


@pytest.fixture
def label_map(results):
    """Return the path of a label map in the copy."""
    return results / "out" / "segmented" / NAMES[0] / "func" / "a slide.ome.tif"


@pytest.fixture
def port(results):
    """Serve the copy; return the port."""
    with running(results / "out") as port:
        yield port


def label_tile(port, name, set="func", layer="labels", level=0, row=0, column=0):
    query = {"id": f"segmented/{name}", "set": set, "layer": layer, "level": level, "row": row, "column": column}
    return get(port, "/tile/labels", query)


def image_tile(port, name, level=11, row=0, column=0):
    return get(port, "/tile/image", {"id": f"segmented/{name}", "level": level, "row": row, "column": column})


def test_label_tiles_are_the_label_map_at_each_level(shown, segmented):
    for name, (_, labels) in segmented[1].items():
        for level in (0, 1, 2):
            expected = labels["func"][:: 2**level, :: 2**level]
            height, width = expected.shape
            for row in range(-(-height // 512)):
                for column in range(-(-width // 512)):
                    status, headers, body = label_tile(shown, name, level=level, row=row, column=column)
                    assert status == 200 and headers["content-encoding"] == "deflate"
                    tile = np.frombuffer(zlib.decompress(body), np.uint8).reshape(512, 512)
                    part = expected[row * 512 : (row + 1) * 512, column * 512 : (column + 1) * 512]
                    np.testing.assert_array_equal(tile[: part.shape[0], : part.shape[1]], part)
        for place in ({"level": 3}, {"row": 2}, {"column": 3}, {"row": -1}, {"level": -1}, {"layer": "CRF"}):
            assert label_tile(shown, name, **place)[0] == 404


def test_a_name_that_is_not_utf_8_is_shown_like_the_others(results, port, segmented):
    labels = segmented[1][NAMES[0]][1]
    source = results / "slides" / "a\udcff.png"
    shutil.copy(results / "slides" / NAMES[0], source)
    write_results(results / "out" / "segmented" / source.name, source, labels)
    rows = get_json(port, "/api/entries", collection="segmented")["entries"]
    assert len(rows) == 3
    (name,) = (row["title"] for row in rows if row["title"] not in NAMES)
    assert name.startswith("a") and name.encode()  # which JavaScript can put into a link
    assert get_json(port, "/api/entry", id=f"segmented/{name}")["problem"] == ""
    assert not get_json(port, "/api/entry", id=f"segmented/{name}")["card"]
    assert get(port, "/card", {"id": f"segmented/{name}"})[0] == 404
    (results / "out" / "segmented" / "model_card.md").write_text("# Model card: toy")
    assert get_json(port, "/api/entry", id=f"segmented/{name}")["card"]
    assert get(port, "/card", {"id": f"segmented/{name}"})[2] == b"# Model card: toy"
    assert label_tile(port, name)[0] == image_tile(port, name)[0] == 200
    source.unlink()
    status, _, body = image_tile(port, name)
    assert status == 404 and "not there any more" in body.decode()


def test_image_tiles_overlap_and_cover_the_image(shown, segmented):
    image = segmented[1][NAMES[1]][0]
    status, headers, body = image_tile(shown, NAMES[1], row=1, column=1)
    assert status == 200 and headers["content-type"] == "image/jpeg"
    tile = np.asarray(Image.open(BytesIO(body))).astype(int)
    inner, overlap = pictures.TILE, pictures.OVERLAP
    top = left = inner - overlap
    assert tile.shape == (700 - top, inner + 2 * overlap, 3)

    def difference(down, across):
        rows, columns = slice(top + down, 699 + down), slice(left + across, left + across + tile.shape[1])
        return abs(tile[:-1] - image[rows, columns]).mean()

    assert difference(0, 0) < min(12, *(difference(*step) for step in ((-1, 0), (1, 0), (0, -1), (0, 1))))
    assert Image.open(BytesIO(image_tile(shown, NAMES[1], level=0)[2])).size == (1, 1)
    assert [image_tile(shown, NAMES[1], level=level)[0] for level in (-1, 12)] == [404, 404]
    assert image_tile(shown, NAMES[1], row=2)[0] == 404
    assert image_tile(shown, NAMES[1], row="x")[0] == 400


@pytest.mark.slow
def test_a_slide_that_openslide_reads_is_cut_into_the_same_tiles(tmp_path):
    image = np.kron(RNG.integers(0, 255, (64, 64, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    path = tmp_path / "slide.tif"
    write_pyramid(path, (image[top : top + 256] for top in range(0, 1024, 256)), 1024, 0.5)
    write_picture(tmp_path / "slide.png", image)
    shown = pictures.Pictures()
    for level, row, column in ((10, 1, 1), (10, 2, 0), (9, 0, 1), (3, 0, 0)):
        tiles = [
            np.asarray(Image.open(BytesIO(shown.tile(tmp_path / name, 0.5, level, column, row)))).astype(int)
            for name in ("slide.tif", "slide.png")
        ]
        assert tiles[0].shape == tiles[1].shape
        assert abs(tiles[0] - tiles[1]).mean() < 12


def test_facts_of_an_entry(shown, segmented):
    for name in NAMES:
        assert get(shown, f"/slide/segmented/{urllib.parse.quote(name)}")[0] == 200
    rows = get_json(shown, "/api/entries", collection="segmented")["entries"]
    assert [row["title"] for row in rows] == sorted(NAMES)
    entry = get_json(shown, "/api/entry", id=f"segmented/{NAMES[1]}")
    assert (entry["height"], entry["width"], entry["problem"]) == (700, 1100, "")
    func = next(one for one in entry["sets"] if one["name"] == "func")
    assert [one["code"] for one in func["classes"]] == list(FUNC.codes)
    counts = np.bincount(segmented[1][NAMES[1]][1]["func"].ravel(), minlength=6).tolist()
    areas = dict(zip(FUNC.codes, counts, strict=False))
    assert {code: one["pixels"] for code, one in func["areas"].items()} == areas
    (layer,) = func["layers"]
    assert (layer["key"], layer["height"], layer["width"]) == ("labels", 700, 1100)
    status, _, body = get(shown, "/thumbnail", {"id": f"segmented/{NAMES[1]}", "set": "func"})
    assert status == 200 and max(Image.open(BytesIO(body)).size) == pictures.THUMBNAIL


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_nothing_outside_is_sent(results, port):
    shutil.copytree(results / "out" / "segmented" / NAMES[0], results / "secret")
    names = "../secret", "segmented/../../secret", "/etc/passwd", "segmented//etc", "a\0b", "..", ".", ""
    static = "../server.py", "%2e%2e/server.py", "..%2fserver.py", "/etc/passwd"
    paths = [*(f"/static/{name}" for name in static), "/../../etc/passwd"]
    paths += [f"/api/entries?collection={name}" for name in ("../..", "/etc")]
    for address in ("api/entry", "tile/image", "tile/labels", "thumbnail"):
        paths += [f"/{address}?{urllib.parse.urlencode({'id': name, 'set': 'func'} | WHERE)}" for name in names]
    assert {path: get(port, path)[0] for path in paths} == dict.fromkeys(paths, 404)


def test_links_that_lead_outside_are_refused(results):
    inside = results / "out" / "segmented"
    shutil.copytree(inside / NAMES[0], results / "secret")
    (inside / "linked").symlink_to(results / "secret")
    label_map = inside / NAMES[0] / "func" / "a slide.ome.tif"
    label_map.rename(results / "elsewhere.tif")
    label_map.symlink_to(results / "elsewhere.tif")
    (results / "truth").mkdir()
    (results / "truth" / "a slide.png").symlink_to(results / "slides" / NAMES[0])
    with running(results / "out", results / "truth") as port:
        assert get(port, "/api/entry", {"id": "segmented/linked"})[0] == 403
        (results / "out" / "segmented" / "model_card.md").symlink_to(results / "elsewhere.tif")
        assert get(port, "/card", {"id": f"segmented/{NAMES[0]}"})[0] == 404
        assert label_tile(port, "linked")[0] == 403
        assert "linked" not in str(get_json(port, "/api/entries", collection="segmented"))
        assert label_tile(port, NAMES[0])[0] == 403
        assert label_tile(port, NAMES[0], set="morph")[0] == 200
        assert label_tile(port, NAMES[0], set="morph", layer="truth")[0] == 404


def test_other_sites_and_writing_are_refused(shown):
    own, foreign = f"127.0.0.1:{shown}", f"evil.example:{shown}"
    assert get(shown, "/")[0] == 200
    assert get(shown, "/", Host=f"localhost:{shown}", Origin=f"http://localhost:{shown}")[0] == 200
    odd = "x]", "", "http://[", "[::1", "127.0.0.1:x", "[::1]:99999"
    for host in (foreign, "evil.example", "192.168.0.7", *odd):
        assert get(shown, "/api/collections", Host=host)[0] == 421
    odd = "null", "http://[", "http://[::1", ""
    for origin in (f"http://{foreign}", f"https://{own}", "http://127.0.0.1:1", *odd):
        assert get(shown, "/api/collections", Host=own, Origin=origin)[0] == 403
    assert get(shown, "/api/collections", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert get(shown, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert get(shown, "/api/collections", method=method)[0] == 405
    headers = get(shown, "/")[1]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_token_is_asked_for_once(results):
    with running(results / "out", host="0.0.0.0", token="s3cret") as port:
        for path in ("/", "/?token=wrong", "/api/collections", "/static/dom.js"):
            assert get(port, path)[0] == 401
        status, headers, _ = get(port, "/slide/segmented/a%20slide.png?token=s3cret&x=1")
        assert status == 303 and headers["location"] == "/slide/segmented/a%20slide.png?x=1"
        cookie = headers["set-cookie"].partition(";")[0]
        assert "HttpOnly" in headers["set-cookie"]
        assert get(port, "/api/collections", Cookie=cookie)[0] == 200
        assert get(port, "/api/collections", Cookie=f"{cookie}x")[0] == 401
        assert get(port, "//evil.example/?token=s3cret")[1]["location"].startswith("/evil")


def test_with_a_token_only_addresses_and_own_names_are_known():
    guard = Guard(None, "slides.lab", "token")
    assert all(map(guard.is_own_host, ("10.0.0.3:80", "[fe80::1]:80", "localhost", "slides.lab:8550")))
    assert not any(map(guard.is_own_host, ("evil.example", "10.0.0.3.evil.example:80", "", "slides.lab.evil:1")))


# --- It lives on ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_200_requests_at_once(shown):
    with ThreadPoolExecutor(200) as pool:
        asked = [
            pool.submit(image_tile if number % 2 else label_tile, shown, NAMES[number % 4 // 2], row=number % 8 // 4)
            for number in range(200)
        ]
        answers = [one.result() for one in asked]
        assert {status for status, _, _ in answers} == {200}
        for number, (_, _, body) in enumerate(answers):
            assert body == answers[number % 8][2]
        assert get(shown, "/")[0] == 200


@pytest.mark.slow
def test_damaged_and_deleted_slides(results, port):
    source, healthy = results / "slides" / NAMES[0], (results / "slides" / NAMES[0]).read_bytes()
    assert image_tile(port, NAMES[0])[0] == 200
    source.write_bytes(healthy[:5000])
    status, _, body = image_tile(port, NAMES[0])
    assert status == 422 and NAMES[0] in body.decode() and "\n" not in body.decode()
    source.write_bytes(b"")
    assert image_tile(port, NAMES[0])[0] == 422
    source.unlink()
    assert image_tile(port, NAMES[0])[0] == 404
    entry = get_json(port, "/api/entry", id=f"segmented/{NAMES[0]}")
    assert "not there" in entry["problem"] and (entry["height"], entry["width"]) == (700, 1100)
    assert label_tile(port, NAMES[0])[0] == 200
    assert get(port, "/thumbnail", {"id": f"segmented/{NAMES[0]}", "set": "func"})[0] == 200
    assert get(port, "/thumbnail", {"id": f"segmented/{NAMES[0]}"})[0] == 404
    source.write_bytes(healthy)
    assert image_tile(port, NAMES[0])[0] == 200


@pytest.mark.slow
def test_a_slide_damaged_within(tmp_path):
    image = RNG.integers(0, 255, (1024, 1024, 3), np.uint8)
    path = tmp_path / "slide.tif"
    write_pyramid(path, (image[top : top + 256] for top in range(0, 1024, 256)), 1024, 0.5)
    write_results(tmp_path / "out" / "segmented" / path.name, path, {"func": np.zeros((421, 421), np.uint8)})
    healthy = path.read_bytes()
    content = bytearray(healthy)
    content[2000:200_000] = bytes(198_000)
    with running(tmp_path / "out") as port:
        assert image_tile(port, path.name, level=10)[0] == 200
        path.write_bytes(content)
        assert image_tile(port, path.name, level=10)[0] == 422
        path.write_bytes(healthy)
        os.utime(path, ns=(1, 1))
        assert image_tile(port, path.name, level=10)[0] == 200


@pytest.mark.slow
def test_damaged_and_deleted_label_maps(label_map, port):
    content = label_map.read_bytes()
    assert label_tile(port, NAMES[0])[0] == 200
    for damaged in (b"", content[:100], content[:600] + bytes(400), b"II*\0" + bytes(500)):
        label_map.write_bytes(damaged)
        assert label_tile(port, NAMES[0])[0] == 422
    with tifffile.TiffFile(BytesIO(content)) as file:
        first = file.pages[0].dataoffsets[0]
    label_map.write_bytes(content[:first] + bytes(50) + content[first + 50 :])
    assert label_tile(port, NAMES[0])[0] == 422
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(label_map, "TIFF")
    assert label_tile(port, NAMES[0])[0] == 422
    label_map.unlink()
    assert label_tile(port, NAMES[0])[0] == 404
    assert label_tile(port, NAMES[0], set="morph")[0] == 200
    entry = get_json(port, "/api/entry", id=f"segmented/{NAMES[0]}")
    assert [bool(one["layers"][0].get("problem")) for one in entry["sets"]] == [False, True]


@pytest.mark.slow
def test_a_label_tile_that_claims_gigabytes(label_map, port):
    content = label_map.read_bytes()
    with tifffile.TiffFile(label_map) as file:
        page = file.pages[0]
        first, lengths = page.dataoffsets[0], page.tags["TileByteCounts"]
    bomb = zlib.compress(bytes(1 << 28), 9)
    label_map.write_bytes(content[:first] + bomb + content[first + len(bomb) :])
    assert label_tile(port, NAMES[0])[0] == 422
    claims = bytearray(content)
    claims[lengths.valueoffset : lengths.valueoffset + 4] = (1 << 31).to_bytes(4, "little")
    label_map.write_bytes(claims)
    os.truncate(label_map, 1 << 32)  # a hole, which takes no room
    assert label_tile(port, NAMES[0])[0] == 422


def test_a_map_that_is_larger_than_its_levels(label_map, port):
    tifffile.imwrite(label_map, np.zeros((1100, 700), np.uint8), tile=(512, 512), compression="zlib")
    assert label_tile(port, NAMES[0])[0] == 422
    assert get(port, "/thumbnail", {"id": f"segmented/{NAMES[0]}", "set": "func"})[0] == 422


def write_odd(path, content):
    path.unlink()
    if content == "pipe":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    elif content == "gigabytes":
        path.touch()
        os.truncate(path, 3 << 30)
    else:
        path.write_text(content)


GOOD = '{"input": "a slide.png", "finished": true, "label sets": ["func"]'


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        "pipe",
        "device",
        "gigabytes",
        "",
        "[1, 2",
        "[1, 2]",
        "[" * 100_000,
        '{"input": ' + "[" * 900 + "]" * 900 + ', "label sets": 3}',
        '{"input": "a slide.png", "label sets": 7, "windows": "x"}',
        GOOD + ', "classes": {"func": {"colours": {"a": [1, 2, 3, 4]}}}}',
        GOOD + ', "source": ["x"]}',
        GOOD + ', "notes": 3}',
    ],
    ids=lambda content: content[:60],
)
def test_a_bad_record_is_one_bad_row(results, port, content):
    write_odd(results / "out" / "segmented" / NAMES[0] / "run.json", content)
    good, bad = get_json(port, "/api/entries", collection="segmented")["entries"]
    assert (good["status"], bad["status"], bad["title"], bad["opens"]) == ("done", "failed", NAMES[0], False)
    assert bad["reason"].startswith("run.json: ") and "\n" not in bad["reason"]
    assert label_tile(port, NAMES[0])[0] == 404 and label_tile(port, NAMES[1])[0] == 200
    assert get_json(port, "/api/entry", id=f"segmented/{NAMES[0]}")["reason"] == bad["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers", ['"mpp": 1e999, "width": NaN', '"mpp": "x", "width": [5]', '"pixels": 3, "iou": null']
)
def test_odd_numbers_in_a_record_are_left_out(results, port, numbers):
    write_odd(results / "out" / "segmented" / NAMES[0] / "run.json", f"{GOOD}, {numbers}}}")
    _, row = get_json(port, "/api/entries", collection="segmented")["entries"]
    assert (row["mpp"], row["width"]) == (None, None)
    assert get_json(port, "/api/entry", id=f"segmented/{NAMES[0]}")["width"] == 1100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segmented.csv", "func/areas.csv"])
@pytest.mark.parametrize("content", ["pipe", "device", '"' + "x" * 200_000, "a,b\n1\n1,2,3"])
def test_tables_that_are_none(results, port, name, content):
    path = results / "out" / "segmented" / (name if name == "segmented.csv" else f"{NAMES[0]}/{name}")
    path.touch()
    write_odd(path, content)
    assert len(get_json(port, "/api/entries", collection="segmented")["entries"]) == 2


def test_a_bad_set_is_one_bad_row(tmp_path):
    for name in ("good", "bad"):
        write_record(*draw_set(tmp_path / name, {"a.png": 6, "b.png": 3}))
        shutil.copytree(tmp_path / name / "out" / "a set", tmp_path / "out" / name)
    path = tmp_path / "out" / "bad" / "run.json"
    record = json.loads(path.read_text())
    with running(tmp_path / "out") as port:
        record["results"]["a.png"]["iou"] = {"func": {"CRF": {"": "x"}}}
        path.write_text(json.dumps(record))
        first, second = get_json(port, "/api/entries", collection="bad")["entries"]
        assert (first["status"], second["status"]) == ("failed", "done")
        path.write_text(json.dumps(record | {"classes": {"func": 3}}))
        assert get(port, "/api/entries", {"collection": "bad"})[0] == 422
        assert get_json(port, "/api/entries", collection="good")["entries"][0]["status"] == "done"
        path.write_text("[" * 100_000)
        names = [row["name"] for row in get_json(port, "/api/collections")]
        assert sorted(names) == [".", "good"]
        (bad,) = get_json(port, "/api/entries", collection=".")["entries"]
        assert (bad["title"], bad["status"]) == ("bad", "failed")


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_ignored", "way", "expected"),
    [
        (False, signal.SIGINT, (0, "view ended\n", "")),
        (True, signal.SIGINT, (0, "view ended\n", "")),  # as of what a script starts with &
        (True, signal.SIGTERM, (143, "", "terminated\n")),
    ],
)
def test_the_command_ends_though_a_slide_is_open(results, is_ignored, way, expected):
    command = [sys.executable, "-m", "hsn_v1", "view", "--root", str(results), "--no-browser", "--port", "0"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if is_ignored else signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with process:
        port = int(re.search(r"http://127.0.0.1:(\d+)/", process.stdout.readline())[1])
        assert get_json(port, "/api/collections") == [{"name": "segmented", "title": "segmented"}]
        assert image_tile(port, NAMES[0])[0] == 200
        process.send_signal(way)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == expected


def test_a_port_that_is_taken():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: cannot listen"):
            listen("127.0.0.1", port)
    with pytest.raises(InputError, match="port 70000: expected"):
        listen("127.0.0.1", 70000)
    with pytest.raises(InputError, match=r"203\.0\.113\.1, port .*cannot listen"):
        listen("203.0.113.1", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["."], ".: no results in it"),
        (["out", "--truth", "nowhere"], "--truth nowhere: no such folder"),
    ],
)
def test_what_cannot_be_shown(results, monkeypatch, command, arguments, message):
    (results / "empty").mkdir()
    monkeypatch.chdir(results / "empty" if arguments == ["."] else results)
    status, _, error = command("view", *arguments, "--no-browser")
    assert status == 2 and error.startswith(f"error: {message}")


def test_openseadragon_is_what_its_readme_says():
    folder = Path(pictures.__file__).with_name("static") / "openseadragon"
    for name in ("openseadragon.min.js", "LICENSE.txt"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert f"`{name}` | `{digest}`" in (folder / "README.md").read_text("utf-8")
