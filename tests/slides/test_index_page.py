"""The index of a folder of results: its page and its tables."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import Page, cards, links, rows

from hsn_v1.adp import FUNC, GLAS
from hsn_v1.densecrf import CRF
from hsn_v1.io.images import read_image
from hsn_v1.io.records import record_of_label_set
from hsn_v1.slide_io.label_maps import LabelMapInfo, write_areas
from hsn_v1.slides import index_page
from hsn_v1.slides.index_page import StatusTable, write_index
from hsn_v1.slides.inputs import Input
from hsn_v1.slides.results import write_reduced
from hsn_v1.slides.results_folder import Outcome, write_record

OTHER, GLAND = FUNC.indices(("Other", "G.O"))


def segmented(out, name, labels, label_set=FUNC, reduced=True):
    """Write an input's results, as far as the index needs them, and return its outcome."""
    folder = out / name / label_set.name
    folder.mkdir(parents=True)
    counts = np.bincount(labels.ravel(), minlength=len(label_set) + 1)
    write_areas(folder / "areas.csv", counts, LabelMapInfo(*labels.shape, 0.5, label_set))
    if reduced:
        write_reduced(folder, np.full((*labels.shape, 3), 120, np.uint8), labels, label_set)
    facts = {"height": 40 * labels.shape[0], "width": 40 * labels.shape[1]}
    record = {"source": str(out / name), "facts": facts, "notes": [f"note on {name}"], "finished": True}
    write_record(out / name, {**record, "classes": {label_set.name: record_of_label_set(label_set)}})
    return Outcome(out / name, out / name, "done", "", facts, (f"note on {name}",), label_sets=(label_set,))


def failed(out, name, reason, **options):
    return Outcome(out / name, out / name, "failed", reason, **options)


def page_of(out, outcomes, **options):
    assert write_index(out, outcomes, "toy", {FUNC.name: CRF()}, **options) == []
    return out / "index.html"


def test_inputs_have_their_image_mask_shares_and_files(tmp_path):
    labels = np.full((6, 8), GLAND, np.uint8)
    labels[:, :4], labels[0] = OTHER, len(FUNC)  # the first row has no tissue
    outcome = replace(segmented(tmp_path, "a #1.svs", labels), caveat="<i>no result</i>")
    path = page_of(tmp_path, [outcome, failed(tmp_path, "<b>.svs", "<b>.svs: cut off")])
    assert all(links(path).values())
    assert {"a%20%231.svs/func/image.jpg", "a%20%231.svs/func/mask.png", "a%20%231.svs/func/areas.csv"} <= set(
        links(path)
    )
    texts = Page(path).texts
    assert {"<i>no result</i>", "<b>.svs: cut off", "note on a #1.svs", "other tissue", "50.0 %"} <= set(texts)
    assert "reason" not in texts  # those that failed are listed with it
    (card,) = cards(path)
    assert card["data-ranks"] == '{"func": {"G.O": 0.5, "Other": 0.5}}'
    assert "G.N endocrine gland" not in texts


def test_an_input_that_was_segmented_before_there_were_reduced_images_has_its_files(tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    path = page_of(tmp_path, [segmented(tmp_path, "a.svs", labels, GLAS, reduced=False)])
    assert list(links(path)) == ["a.svs/glas/areas.csv"]
    assert len(cards(path)) == 1


def test_results_of_other_classifiers_have_their_own_classes(tmp_path):
    labels = np.full((6, 8), GLAND, np.uint8)
    other = replace(FUNC, colours=FUNC.colours | {"G.O": (1, 2, 3)})
    inputs = (("a.svs", FUNC), ("b.svs", other), ("c.svs", FUNC))
    outcomes = [segmented(tmp_path, name, labels, label_set) for name, label_set in inputs]
    found = Page(page_of(tmp_path, outcomes))
    ranks = [json.loads(attributes["data-ranks"]) for _, attributes in found.tags if "data-ranks" in attributes]
    assert ranks == [{"func": {"G.O": 1}}, {"func 2": {"G.O": 1}}, {"func": {"G.O": 1}}]
    colours = [attributes["data-colour"] for _, attributes in found.tags if "data-colour" in attributes]
    assert colours == ["rgb(0, 0, 128)", "rgb(1, 2, 3)"]


def test_without_results_there_is_no_gallery(tmp_path):
    path = page_of(tmp_path, [failed(tmp_path, "a.svs", "a.svs: cut off")])
    found = Page(path)
    assert not [tag for tag, attributes in found.tags if attributes.get("class") == "gallery"]
    assert "Images" not in found.texts and "a.svs: cut off" in found.texts


def test_a_self_contained_page_links_no_file(tmp_path):
    outcome = segmented(tmp_path, "a.svs", np.full((6, 8), GLAND, np.uint8))
    found = Page(page_of(tmp_path, [outcome], self_contained=True))
    sources = [attributes["src"] for _, attributes in found.tags if attributes.get("src")]
    assert [source.partition(";")[0] for source in sources] == ["data:image/jpeg", "data:image/png"]
    assert all(attributes["href"].startswith(("#", "data:,")) for _, attributes in found.tags if "href" in attributes)


def test_pixels_without_tissue_are_white_in_the_mask(tmp_path):
    labels = np.full((6, 8), len(FUNC), np.uint8)
    labels[0] = GLAND
    write_reduced(tmp_path, np.zeros((6, 8, 3), np.uint8), labels, FUNC)
    mask, _ = read_image(tmp_path / "mask.png")
    assert (mask[0] == FUNC.colours["G.O"]).all() and (mask[1:] == 255).all()


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_failures_stay_until_the_input_is_tried_again(tmp_path):
    labels, names = np.full((6, 8), GLAND, np.uint8), ["b.svs", "d\udcff.svs", "=b, c", "new\nline.svs"]
    page_of(tmp_path, [failed(tmp_path, name, "cut off", columns={"patient": "P1"}) for name in names])
    page_of(tmp_path, [segmented(tmp_path, "a.svs", labels)])
    page = Page(page_of(tmp_path, []))
    found = [(row["status"], row["reason"], row["patient"]) for row in rows(tmp_path / "segmented.csv")]
    assert sorted(found) == [("done before", "", ""), *[("failed", "cut off", "P1")] * 4]
    assert sum("cut off" in text for text in page.texts) == 4
    page_of(tmp_path, [failed(tmp_path, name, "still cut off") for name in names])
    assert sorted(row["reason"] for row in rows(tmp_path / "segmented.csv")) == ["", *["still cut off"] * 4]
    page_of(tmp_path, [segmented(tmp_path, name, labels) for name in names])
    page_of(tmp_path, [])
    assert [row["reason"] for row in rows(tmp_path / "segmented.csv")] == [""] * 5


def test_results_that_could_not_be_made_again_say_so_until_they_are(tmp_path):
    outcome = segmented(tmp_path, "a.svs", np.full((6, 8), GLAND, np.uint8))
    for outcomes in ([failed(tmp_path, "a.svs", "cut off")], []):
        page_of(tmp_path, outcomes)
        (row,) = rows(tmp_path / "segmented.csv")
        assert (row["status"], row["reason"]) == ("done before", "not segmented again: cut off")
    page_of(tmp_path, [outcome])
    assert rows(tmp_path / "segmented.csv")[0]["reason"] == ""


def test_a_folder_that_was_empty_is_no_failure_once_it_has_images(tmp_path):
    page_of(tmp_path, [failed(tmp_path, "slides", "no images")])
    page_of(tmp_path, [replace(failed(tmp_path, "a.svs", "cut off"), source=tmp_path / "slides" / "a.svs")])
    assert [row["reason"] for row in rows(tmp_path / "segmented.csv")] == ["cut off"]


@pytest.mark.parametrize("content", [b"input,other\na,b\n", b"\xff\xfe", b"", b"input;reason\na;b\n"])
def test_a_table_of_something_else_is_replaced(tmp_path, content):
    (tmp_path / "segmented.csv").write_bytes(content)
    page_of(tmp_path, [failed(tmp_path, "a.svs", "cut off")])
    assert [row["reason"] for row in rows(tmp_path / "segmented.csv")] == ["cut off"]


@pytest.fixture
def held(monkeypatch):
    """Let tables be held by another program, as on Windows; return the names of those that are."""
    names, write = set(), index_page.write_bytes

    def refused(path, content):
        if path.name in names:
            raise PermissionError(13, "Permission denied", str(path))
        write(path, content)

    monkeypatch.setattr(index_page, "write_bytes", refused)
    return names


def test_a_table_that_another_program_holds_is_noted_and_the_page_is_written(tmp_path, held):
    held.add("segmented.csv")
    (note,) = write_index(tmp_path, [failed(tmp_path, "a.svs", "cut off")], "toy", {})
    assert note.startswith(f"{tmp_path / 'segmented.csv'}: cannot be replaced (Permission denied); close it")
    assert (tmp_path / "index.html").exists()


@pytest.fixture
def inputs(tmp_path):
    names = ["a.svs", "=b, c", "d\ud800.svs", "e"]  # a formula, to a spreadsheet; and no Unicode
    return [Input(tmp_path / name, name, columns={"patient": f"P{i}"}) for i, name in enumerate(names)]


def test_each_change_is_in_the_table_of_states_at_once(inputs, tmp_path):
    table = StatusTable(tmp_path / "status.csv", inputs, pytest.fail)
    assert [row["status"] for row in rows(table.path)] == ["waiting"] * 4
    item = inputs[1]
    table(Outcome(item.path, tmp_path / item.name, "running", where="process 1 on node1"))
    row = rows(table.path)[1]
    assert (row["status"], row["where"], row["patient"]) == ("running", "process 1 on node1", "P1")
    table(Outcome(item.path, tmp_path / item.name, "failed", "damaged", {"tiles": 7}, ("a", "b")))
    row = rows(table.path)[1]
    assert row["where"] == "process 1 on node1" and row["reason"] == "damaged" and row["path"] == str(item.path)
    assert (row["tiles"], row["notes"]) == ("7", "a b")


def test_work_goes_on_while_another_program_holds_the_table_of_states(inputs, tmp_path, held):
    held.add("status.csv")
    notes = []
    table = StatusTable(tmp_path / "status.csv", inputs, notes.append)
    table(Outcome(inputs[0].path, tmp_path / inputs[0].name, "done"))
    assert len(notes) == 1 and notes[0].startswith(f"{table.path}: cannot be written (Permission denied)")
    held.clear()
    table(Outcome(inputs[3].path, tmp_path / inputs[3].name, "done"))
    assert [row["status"] for row in rows(table.path)] == ["done", "waiting", "waiting", "done"]
