import numpy as np
import pytest

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.images import find_images
from hsn_v1.sets.published import HistoSegNetV1
from hsn_v1.sets.settings import SaveTypes, check_params, settings_from_params, with_crfs

GOOD = {"input_name": "patches"}

BAD = {
    "input_name": ["", 3, None, "../..", "x/../..", "/tmp"],
    "input_size": [224, [224], [224, 0], [224.5, 224], "ab", [True, 224]],
    "input_mode": ["slide", None, ["patch"]],
    "down_fac": [0, -1, 1e-9, 1e9, "1", None, float("nan"), float("inf"), True],
    "batch_size": [0, -3, 1.5, "8", True],
    "htt_mode": ["", None, ["glas"]],
    "gt_mode": ["maybe", None, []],
    "run_level": [0, 4, "3", True],
    "save_types": [[1, 1, 1], [1, 1, 1, 2], 1, "1111"],
    "crf": ["own", None, []],
    "verbosity": ["LOUD", 1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_every_bad_value_is_named(key, value):
    with pytest.raises(InputError, match=rf"params\['{key}'\] is .*; expected "):
        check_params({**GOOD, key: value})


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(InputError, match="unknown key 'down_factor'; known are input_name, "):
        check_params({**GOOD, "down_factor": 2})
    with pytest.raises(InputError, match="input_name"):
        check_params({})


def test_settings_of_the_published_params(root):
    settings = settings_from_params(
        check_params({**GOOD, "save_types": [1, 0, 0, 1], "down_fac": 2}), root=root, workers=3
    )
    assert [path.name for path in settings.images] == ["a#1.png", "b c.png", "d.png_crop_1.png", "ü.PNG"]
    assert settings.label_sets == (MORPH, FUNC)
    assert settings.out == root / "out" / "patches"
    assert settings.save == SaveTypes(confidences=True, maps=False, masks=False, summaries=True)
    assert (settings.downsample, settings.workers) == (2.0, 3)


def test_a_model_may_have_crf_settings_of_its_own(root):
    settings = settings_from_params(check_params(GOOD), root=root)
    np.save(root / "data" / "mine_func_optimal_pcc.npy", [[1, 2, 3, 4, 5, 5]])
    crfs = with_crfs(settings, root / "data", "mine").crfs
    assert crfs == {"morph": CRF(1, 20, 10, 40, 50), "func": CRF(1, 2, 3, 4, 5)}
    assert with_crfs(settings, root / "data", "toy").crfs["func"] == CRF(3, 40, 10, 4, 25)


def test_default_crf_settings_are_told(root):
    (root / "data" / "func_optimal_pcc.npy").unlink()
    settings = with_crfs(settings_from_params(check_params(GOOD), root=root), root / "data", "toy")
    assert settings.crfs["func"] == CRF(3, 30, 10, 20, 50)
    (note,) = settings.notes
    assert "func_optimal_pcc.npy: no such file" in note


@pytest.mark.parametrize("workers", [0, -1, 1.5, 10**11])
def test_workers_must_be_positive(root, workers):
    with pytest.raises(InputError, match=f"workers is {workers}"):
        settings_from_params(check_params(GOOD), root=root, workers=workers)


def test_missing_and_empty_folders_are_named(root):
    with pytest.raises(InputError, match="img/other: no such folder"):
        settings_from_params(check_params({"input_name": "other"}), root=root)
    (root / "img" / "other").mkdir()
    (root / "img" / "other" / "x.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="img/other: no images; expected PNG files"):
        settings_from_params(check_params({"input_name": "other"}), root=root)
    with pytest.raises(InputError, match=r"gt/patches/glas: no such folder; .*gt_mode off"):
        settings_from_params(check_params({**GOOD, "htt_mode": "glas"}), root=root)
    assert settings_from_params(check_params({**GOOD, "htt_mode": "glas", "gt_mode": "off"}), root=root).truth is None


def test_a_label_set_that_the_model_lacks_is_named(root):
    with pytest.raises(InputError, match="all: no label set of this classifier; it has morph, func, glas, both"):
        settings_from_params(check_params({**GOOD, "htt_mode": "all"}), root=root)


def test_tiles_of_a_slide_are_those_that_end_in_f1(tmp_path):
    for name in ("s_1_f1.png", "s_2_f1.jpg", "s_1.png", "f1_s.png", "._s_f1.png"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_images(tmp_path, "wsi")] == ["s_1_f1.png", "s_2_f1.jpg"]


def test_calls_in_the_wrong_order_say_so(root):
    hsn = HistoSegNetV1(GOOD, root)
    with pytest.raises(InputError, match="call load_histonet"):
        hsn.run_batch()
    with pytest.raises(InputError, match="expected model_name alone"):
        hsn.load_histonet({"model": "toy"})
