"""The page of the user's own images and slides."""

import json
from dataclasses import replace

import numpy as np
from helpers import Page, links

from hsn_v1.adp import FUNC, GLAS
from hsn_v1.densecrf import CRF
from hsn_v1.io.images import read_image
from hsn_v1.show.html import Table
from hsn_v1.slide_io.label_maps import write_areas
from hsn_v1.slides.index_page import write_inputs_page, write_reduced
from hsn_v1.slides.plan import Method, Outcome

OTHER, GLAND = FUNC.indices(("Other", "G.O"))


def segmented(out, name, labels, label_set=FUNC, reduced=True):
    """Write what the page needs of an input's results, and return its outcome."""
    folder = out / name / label_set.name
    folder.mkdir(parents=True)
    write_areas(folder / "areas.csv", np.bincount(labels.ravel(), minlength=len(label_set) + 1), 0.5, label_set)
    if reduced:
        write_reduced(folder, np.full((*labels.shape, 3), 120, np.uint8), labels, label_set)
    facts = {"height": 40 * labels.shape[0], "width": 40 * labels.shape[1]}
    return Outcome(out / name, out / name, "done", "", facts, (f"note on {name}",), label_sets=(label_set,))


def page_of(out, outcomes, **options):
    table = Table("", ["input", "reason"], [[one.source.name, one.reason] for one in outcomes], words=2)
    write_inputs_page(out, outcomes, table, Method((FUNC,), {FUNC.name: CRF()}), "toy", **options)
    return out / "index.html"


def cards(path):
    return [attributes for tag, attributes in Page(path).tags if attributes.get("class") == "card"]


def test_inputs_have_their_image_mask_shares_and_files(tmp_path):
    labels = np.full((6, 8), GLAND, np.uint8)
    labels[:, :4], labels[0] = OTHER, len(FUNC)  # the first row has no tissue
    failed = Outcome(tmp_path / "<b>.svs", tmp_path / "<b>.svs", "failed", "<b>.svs: cut off")
    path = page_of(tmp_path, [segmented(tmp_path, "a #1.svs", labels), failed], caveat="<i>no result</i>")
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
    path = page_of(tmp_path, [Outcome(tmp_path / "a.svs", tmp_path / "a.svs", "failed", "a.svs: cut off")])
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
