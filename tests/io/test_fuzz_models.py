"""The short form of `fuzz_models`: changed files are read, or refused in one line."""

import numpy as np
import pytest
from fuzz_models import changed_bytes, changed_json, toy_files

from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.keras_json import network_of, read_architecture
from hsn_v1.io.model_files import read_taxonomy
from hsn_v1.io.models import read_thresholds, read_weights


@pytest.fixture(scope="module")
def pristine(keras, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    toy_files(folder)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def build(keras, path):
    network_of(keras, read_architecture(path), path)


READERS = {
    ".json": (60, changed_json, build),
    "bytes of .json": (20, changed_bytes, build),
    ".h5": (4, changed_bytes, lambda _, path: read_weights(path)),
    ".mat": (4, changed_bytes, lambda _, path: read_thresholds(path, 2)),
    ".toml": (100, changed_bytes, lambda _, path: read_taxonomy(path.parent, "toy")),
    ".npy": (100, changed_bytes, lambda _, path: CRF.from_file(path)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_changed_files_are_read_or_refused_in_one_line(keras, pristine, tmp_path, kind):
    count, change, read = READERS[kind]
    path = tmp_path / f"toy{kind.rpartition(' ')[2]}"
    path.write_bytes(pristine[path.suffix])
    read(keras, path)
    said = []
    for seed in range(count):
        path.write_bytes(change(pristine[path.suffix], np.random.default_rng(seed)))
        try:
            read(keras, path)
        except InputError as error:
            said.append(str(error))
    assert said
    assert all("\n" not in line and len(line) < 1000 for line in said)
