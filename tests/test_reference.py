"""Masks, scores and metrics against what the published code gave for the same images and weights."""

import csv
import json

import numpy as np
import pytest

from hsn_v1 import HistoSegNetV1
from hsn_v1.adp import ADP, CLASSIFIER_MPP, LABEL_SETS
from hsn_v1.histonet import normalise
from hsn_v1.io.masks import read_mask
from hsn_v1.io.models import load_histonet
from hsn_v1.labels import STAGES
from hsn_v1.sets.run import classify_files
from hsn_v1.sets.settings import check_params, settings_from_params, with_crfs
from hsn_v1.tiles import TileGrid

pytestmark = pytest.mark.slow

SETS = {"01_tuning_patch": ("both", 1.0), "02_glas_full": ("glas", CLASSIFIER_MPP / 0.620)}


@pytest.fixture(scope="module")
def histonet(reference):
    return load_histonet(reference / "real" / "data", "histonet_X1.7_clrdecay_5")


@pytest.fixture(scope="module", params=SETS)
def run(request, reference, histonet, tmp_path_factory):
    htt_mode, down_fac = SETS[request.param]
    out = tmp_path_factory.mktemp(request.param)
    params = {"input_name": request.param, "htt_mode": htt_mode, "down_fac": down_fac, "verbosity": "QUIET"}
    params["save_types"] = [0, 0, 1, 0]  # masks: nothing else is looked at
    hsn = HistoSegNetV1(params, reference / "real", out)
    settings = settings_from_params(check_params(params), root=reference / "real", out=out)
    hsn.settings = with_crfs(settings, reference / "real" / "data", "histonet_X1.7_clrdecay_5")
    hsn.histonet = histonet
    expected = {path.name[:-4]: np.load(path) for path in (reference / "reference" / request.param).glob("*.npz")}
    metrics = json.loads((reference / "reference" / "metrics.json").read_text())[request.param]
    classified = []

    def watched(*arguments):
        for path, item in classify_files(*arguments):
            classified.append(item)
            yield path, item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsn_v1.sets.run.classify_files", watched)
        return hsn, hsn.run_batch(), expected, metrics, classified


def test_masks_are_equal_at_every_stage(run):
    hsn, report, expected, metrics, _ = run
    assert set(report.files) == set(expected)
    for name in metrics:
        for stage in STAGES:
            shares = []
            for file, reference in expected.items():
                wanted = reference[f"{name}_{stage}"]
                path = hsn.settings.out / name / f"ablative_{stage}" / file
                shares.append(np.mean(read_mask(path, LABEL_SETS[name], wanted.shape).labels == wanted))
            assert np.mean(shares) >= 0.9999


def test_metrics_are_equal(run):
    hsn, report, _, metrics, _ = run
    for name, wanted in metrics.items():
        np.testing.assert_allclose(report.weights[name], wanted["fiou_weights"], atol=1e-6)
        for stage in STAGES:
            for metric in ("fIoU", "mIoU"):
                assert report.metrics(name, stage)[metric] == pytest.approx(wanted[stage][metric], abs=1e-4)
            with (hsn.settings.out / f"metric_results_{stage}.csv").open(newline="") as file:
                row = next(csv.DictReader(file))
            assert float(row[f"{name}_mIoU"]) == pytest.approx(wanted[stage]["mIoU"], abs=1e-4)
        with (hsn.settings.out / f"{name}_IoU_metric_results.csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        per_class = [float(row[code]) for code in wanted["classes"]]
        np.testing.assert_allclose(per_class, wanted["CRF"]["iou"], atol=1e-4)


def test_scores_and_inputs_are_equal(run):
    hsn, _, expected, _, classified = run
    assert {item.path.name for item in classified} == set(expected)
    for item in classified:
        wanted = expected[item.path.name]
        np.testing.assert_allclose(item.tiles.scores, wanted["scores"], atol=1e-4)
        if "inputs" in wanted:
            crops = TileGrid(*item.image.shape[:2], hsn.settings.downsample).crop(item.image)
            np.testing.assert_allclose(normalise(crops, ADP), wanted["inputs"], atol=1e-4)
