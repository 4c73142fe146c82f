"""Files that anybody may have written: none is waited for, none is read without end."""

import os
import shutil

import pytest

from hsn_v1 import keras_start
from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.images import read_image
from hsn_v1.io.locks import is_locked
from hsn_v1.io.model_files import read_taxonomy
from hsn_v1.io.models import read_thresholds, read_weights
from hsn_v1.io.reading import read_bytes, read_json, read_table, read_text
from hsn_v1.io.records import FIELDS, read_record
from hsn_v1.slide_io.label_maps import label_map_size
from hsn_v1.slide_io.multi_file import parts_of_slides
from hsn_v1.slides.regions import version_of_regions
from hsn_v1.training.checkpoints import read_log
from hsn_v1.view.pyramids import read_pyramid

READERS = {
    "bytes": read_bytes,
    "text": read_text,
    "json": read_json,
    "table": read_table,
    "image": read_image,
    "CRF settings": CRF.from_file,
    "weights": read_weights,
    "thresholds": lambda path: read_thresholds(path, 3),
    "classes": lambda path: read_taxonomy(path.parent, "m"),
    "log": read_log,
    "label map": label_map_size,
    "label map to view": read_pyramid,
    "regions": version_of_regions,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_refused_at_once(tmp_path, reader, kind):
    path = tmp_path / "m.toml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a regular file"):
        READERS[reader](path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: a folder, expected a file"):
        read_bytes(tmp_path)


def test_settings_of_libraries_that_never_end_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "keras.json")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"keras\.json: not a regular file"):
        keras_start.check_settings()
    connect = pytest.importorskip("hsn_v1.slides.cluster.connect")
    shutil.move(tmp_path / "keras.json", tmp_path / "dask.yaml")
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    with pytest.raises(InputError, match=r"dask\.yaml: not a regular file"), connect.cluster_client("local", 1, print):
        pass
    shutil.move(tmp_path / "dask.yaml", tmp_path / "x.ome.tif")
    assert parts_of_slides([tmp_path / "x.ome.tif"]) == {}


def sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("reader", ["bytes", "text", "json", "table", "classes"])
def test_what_is_too_large_is_not_read(tmp_path, reader):
    sparse(tmp_path / "m.toml", 3 << 30)
    with pytest.raises(InputError, match="larger than"):
        READERS[reader](tmp_path / "m.toml")


RECORDS = {
    "nothing": None,
    "no JSON": b"{",
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "a list": b"[]",
    "latin": b'"\xff"',
    "a long number": b'{"input": %s}' % (b"9" * 5000),
    **{f"{field} of another type": b'{"finished": true, "%s": 1.5}' % field.encode() for field in FIELDS},
}


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
def test_a_damaged_record_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    assert read_record(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
def test_records_and_locks_that_never_end_are_none(tmp_path):
    (tmp_path / "run.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / ".claim")
    assert read_record(tmp_path) == {} and not is_locked(tmp_path)
