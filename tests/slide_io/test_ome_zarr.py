"""Label maps as OME-Zarr, read again by the library that reads it."""

import json

import numpy as np
import pytest
from helpers import write_map

from hsn_v1.adp import FUNC
from hsn_v1.errors import InputError
from hsn_v1.slide_io import ome_zarr
from hsn_v1.slide_io.label_maps import LabelMapInfo
from hsn_v1.slide_io.ome_zarr import check_ome_zarr, write_ome_zarr


@pytest.mark.slow
def test_a_label_map_is_labels_of_a_picture_at_one_scale(tmp_path):
    pytest.importorskip("ome_zarr", reason="needs ome-zarr: pip install 'hsn_v1[zarr]'")
    import zarr

    labels = np.random.default_rng(0).integers(0, len(FUNC) + 1, (70, 90), np.uint8)
    info = LabelMapInfo(70, 90, 1.5, FUNC, "s func")
    write_map(tmp_path / "s.ome.tif", labels, tile=32)
    picture = np.zeros((35, 45, 3), np.uint8)
    for _ in range(2):  # the second replaces the first
        write_ome_zarr(tmp_path / "s.ome.zarr", tmp_path / "s.ome.tif", picture, info)
    group = zarr.open_group(str(tmp_path / "s.ome.zarr"), mode="r")
    stored = group["labels/func"]
    expected = np.where(labels < len(FUNC), labels + 1, 0)
    (image,), (scales,) = group.attrs["multiscales"], stored.attrs["multiscales"]
    full, half, *_ = (level["path"] for level in scales["datasets"])
    np.testing.assert_array_equal(stored[full][:], expected)
    np.testing.assert_array_equal(stored[half][:], expected[::2, ::2])
    assert group[image["datasets"][0]["path"]].shape == (3, 35, 45)
    assert image["version"] == scales["version"] == "0.4"
    assert image["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1, 3, 3]}]
    assert [level["coordinateTransformations"][0]["scale"] for level in scales["datasets"]][:2] == [[1.5, 1.5], [3, 3]]
    about = stored.attrs["image-label"]
    assert about["properties"][2] == {"label-value": 3, "class": FUNC.describe(FUNC.codes[2])}
    assert about["colors"][2]["rgba"] == [*FUNC.colours[FUNC.codes[2]], 255]
    assert json.loads((tmp_path / "s.ome.zarr/labels/.zattrs").read_text())["labels"] == ["func"]


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setattr(ome_zarr, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs ome-zarr: pip install 'hsn_v1\[zarr\]'"):
        check_ome_zarr()
