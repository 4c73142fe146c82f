"""Wrong arguments from Python: each message says what came, what is expected, and the call that converts."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hsn_v1
from hsn_v1.adp import FUNC, LABEL_SETS, MORPH
from hsn_v1.checks import IMAGE, check_image
from hsn_v1.slides.plan import Method

RIGHT = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
CRFS = {"morph": hsn_v1.CRF(), "func": hsn_v1.CRF()}

#: Images of which the message has the call that converts.
IMAGES = {
    "float in 0..1": RIGHT / 255.0,
    "float in 0..255": RIGHT.astype(np.float32),
    "channels first": RIGHT.transpose(2, 0, 1),
    "channels first, in 0..1": RIGHT.transpose(2, 0, 1) / 255.0,
    "grey": RIGHT[..., 0],
    "grey with an axis": RIGHT[..., :1],
    "RGBA": np.concatenate([RIGHT, RIGHT[..., :1]], axis=-1),
    "16 bits": RIGHT.astype(np.uint16) * 257,
    "int64": RIGHT.astype(np.int64),
    "bool": RIGHT[..., 0] > 100,
    "Pillow's": Image.fromarray(RIGHT),
    "list": RIGHT.tolist(),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_what_the_message_on_an_image_says_converts_it(kind):
    image = IMAGES[kind]
    with pytest.raises(hsn_v1.InputError, match=re.escape(IMAGE)) as raised:
        check_image(image)
    call = str(raised.value).rpartition(": pass ")[2]
    converted = eval(call, {"np": np, "image": image})
    if kind == "list":  # of no type, which comes next
        converted = converted.astype(np.uint8)
    check_image(converted)
    assert converted.shape == RIGHT.shape
    if not kind.startswith(("grey", "bool")):
        np.testing.assert_array_equal(converted, RIGHT)


def of(**wrong):
    """Return the arguments of `segment_image` with some of them wrong."""
    return {"image": RIGHT, "label_sets": [MORPH, FUNC], "crfs": CRFS, **wrong}


#: Wrong arguments, and what the message has to say.
WRONG = {
    "path": (of(image="a.png"), r"pass hsn_v1.imread\('a.png'\)"),
    "Path": (of(image=Path("a.png")), r"pass hsn_v1.imread\('a.png'\)"),
    "batch": (of(image=RIGHT[np.newaxis]), "a batch; .* one image at a time"),
    "normalised": (of(image=(RIGHT - 190.0) / 56), "values -3.* undo its normalisation"),
    "not a number": (of(image=np.full((4, 4, 3), np.nan)), "values nan to nan"),
    "many channels": (of(image=np.zeros((9, 9, 31), np.uint8)), "has 31 channels"),
    "no pixel": (of(image=np.zeros((0, 9, 3), np.uint8)), "at least one pixel"),
    "texts": (of(image=np.full((4, 4, 3), "a")), "is <U1 of shape"),
    "classifier's name": (of(classifier="mine"), r"pass hsn_v1.load_histonet\('mine'\)"),
    "function": (of(classifier=lambda tiles: tiles), "hsn_v1.FunctionClassifier"),
    "thresholds": (of(thresholds=np.full(3, 0.5)), r"has shape \(3,\); expected \(51,\)"),
    "thresholds in percent": (of(thresholds=np.full(51, 50.0)), "50 to 50; expected 0 to 1"),
    "name of a label set": (of(label_sets="morf"), r"pass \[classifier.labels.label_sets\['morph'\]\]"),
    "names of label sets": (of(label_sets=["morph", "func"]), r"\['morph'\], .*\['func'\]\]"),
    "one label set": (of(label_sets=MORPH), "pass it in a list"),
    "label sets by name": (of(label_sets=LABEL_SETS), r"pass .*\.values\(\)"),
    "no label set": (of(label_sets=[]), "label_sets is empty"),
    "numbers for label sets": (of(label_sets=[1]), "of type int; expected a LabelSet"),
    "label set of another": (of(label_sets=[replace(MORPH, outputs_of={"E.M.S": 51})]), "of another classifier"),
    "one CRF": (of(crfs=hsn_v1.CRF()), "crfs is a CRF; expected .* {'morph': hsn_v1.CRF"),
    "unknown key": (of(crfs={"Morph": hsn_v1.CRF()}), "has the key 'Morph'; expected .*'morph'"),
    "label sets as keys": (of(crfs={MORPH.name: hsn_v1.CRF(), 3: hsn_v1.CRF()}), "has the key 3"),
    "missing key": (of(crfs={"morph": hsn_v1.CRF()}), "crfs has no 'func'"),
    "numbers for a CRF": (of(crfs={**CRFS, "func": (3, 30, 10, 20, 50)}), r"crfs\['func'\] is \(3, 30"),
    "width of nothing": (of(crfs={**CRFS, "func": hsn_v1.CRF(bilat_srgb=0)}), r"crfs\['func'\]: bilat_srgb is 0"),
    "no scale": (of(downsample=0), "downsample is 0; expected 0.01 to 100, the classifier's microns per pixel over"),
    "scale as text": (of(downsample="0.5"), "microns per pixel over the image's"),
    "threads": (of(threads=0), "threads is 0"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_argument_ends_in_one_line_that_says_what_to_do(kind, toy_histonet):
    arguments, expected = WRONG[kind]
    classifier = arguments.pop("classifier", toy_histonet)
    if "thresholds" in arguments:
        classifier = replace(toy_histonet, thresholds=arguments.pop("thresholds"))
    with pytest.raises(hsn_v1.InputError, match=expected) as raised:
        hsn_v1.segment_image(classifier=classifier, **arguments)
    assert isinstance(raised.value, ValueError)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_right_arguments_pass(toy_histonet):
    found = hsn_v1.segment_image(RIGHT[:, ::-1], toy_histonet, iter([MORPH]), CRFS)  # a view, a generator, more CRFs
    assert [*found["morph"].masks] == ["GradCAM", "Adjust", "CRF"]
    assert [*hsn_v1.segment_image(RIGHT, toy_histonet, [MORPH], {})["morph"].masks] == ["GradCAM", "Adjust"]


LABELS = np.zeros((32, 40), np.uint8)
METHOD = Method((MORPH,), CRFS)

#: Calls of the other functions with a wrong argument, and what the message has to say.
CALLS = {
    "mask by its path": (lambda c: hsn_v1.iou(LABELS, "a.png", MORPH), "truth is a path.*hsn_v1.read_mask"),
    "maps as a mask": (lambda c: hsn_v1.iou(np.zeros((2, 3, 4)), LABELS, MORPH), r"argmax\(axis=0\)"),
    "sizes": (lambda c: hsn_v1.iou(LABELS, LABELS[:9], MORPH), r"\(9, 40\); expected \(32, 40\)"),
    "index beyond": (lambda c: hsn_v1.iou(LABELS + 30, LABELS, MORPH), "values 30 to 30; expected 0 to 28"),
    "name for a set": (lambda c: hsn_v1.overlay(LABELS, RIGHT, "morph"), r"label_sets\['morph'\]"),
    "mask and image": (lambda c: hsn_v1.overlay(RIGHT, LABELS, MORPH), "np.stack"),
    "no such class": (lambda c: hsn_v1.grad_cam(RIGHT, c, "E.M.Q"), "no output of the classifier.*'E.M"),
    "class in words": (lambda c: hsn_v1.grad_cam(RIGHT, c, "exocrine gland"), "such as 'G.O'"),
    "no such form": (lambda c: hsn_v1.grad_cam(RIGHT, c, "E", "row"), "raw, resized, normalised"),
    "raw, many tiles": (lambda c: hsn_v1.grad_cam(np.zeros((99, 99, 3), np.uint8), c, "E", "raw"), "has 16 tiles"),
    "image / 255 to the CRF": (lambda c: hsn_v1.CRF()(np.ones((2, 32, 40)), RIGHT / 255), "image is float64"),
    "method and CRFs": (lambda c: hsn_v1.segment_slide("a.png", c, METHOD, crfs=CRFS), "`method` has label sets and"),
    "no such model": (lambda c: hsn_v1.load_histonet("histonet"), "no such .*choose one of: "),
    "no such model's CRFs": (lambda c: hsn_v1.load_crfs("histonet"), "no such .*choose one of: "),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_wrong_argument_of_another_function(kind, toy_histonet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, expected = CALLS[kind]
    with pytest.raises(hsn_v1.InputError, match=expected):
        call(toy_histonet)
