"""Weight files of any content: read, or refused in one line."""

import os
import subprocess
import sys

import h5py
import numpy as np
import psutil
import pytest
from helpers import hang

from hsn_v1.errors import InputError
from hsn_v1.io.sandbox import reading_in_sandbox
from hsn_v1.io.weights import read_hdf5

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def path(tmp_path):
    """Write weights of two layers, and of one without any."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense_1", b"flatten_1", b"dense_2"]
        for name in ("dense_1", "flatten_1", "dense_2"):
            group = file.create_group(name)
            names = [] if name == "flatten_1" else [f"{name}/kernel:0", f"{name}/bias:0"]
            group.attrs["weight_names"] = np.array([each.encode() for each in names], "S30")
            for weight in names:
                group[weight] = KERNEL if "kernel" in weight else np.arange(4.0)
    return path


def spoil(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def replaced(make):
    """Return what puts another object in the place of a kernel."""

    def change(file):
        group = file["dense_1/dense_1"]
        del group["kernel:0"]
        make(group, "kernel:0")

    return change


def assigned(values):
    """Return what puts values, or a link, in the place of a kernel."""
    return replaced(lambda group, name: group.__setitem__(name, values))


def renamed(values):
    return lambda file: file.attrs.__setitem__("layer_names", values)


def external(group, name):
    secret = os.path.join(os.path.dirname(group.file.filename), "secret")
    group.create_dataset(name, KERNEL.shape, "f4", external=[(secret, 0, h5py.h5f.UNLIMITED)])


def virtual(group, name):
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", KERNEL.shape)
    group.create_virtual_dataset(name, layout)


def reference(group, name):
    group.create_dataset(name, data=np.array([group.ref] * 12, h5py.ref_dtype).reshape(3, 4), dtype=h5py.ref_dtype)


def made(*arguments, **options):
    """Return what puts a data set in the place of a kernel."""
    return replaced(lambda group, name: group.create_dataset(name, *arguments, **options))


HOSTILE = {
    "NaN": (assigned(np.full((3, 4), np.nan)), "dense_1/kernel:0 of layer dense_1 is not finite"),
    "infinity": (assigned(np.full((3, 4), np.inf, "f4")), "is not finite"),
    "beyond float32": (assigned(np.full((3, 4), 1e300)), "is not finite"),
    "complex": (assigned(np.ones((3, 4), complex)), "is of type complex128; expected real numbers"),
    "boolean": (assigned(np.ones((3, 4), bool)), "is of type bool"),
    "words": (assigned([["a", "b"]]), "is of type object"),
    "compound": (assigned(np.zeros(3, [("a", "f4"), ("b", "f4")])), "expected real numbers"),
    "null": (assigned(h5py.Empty("f4")), "is no array"),
    "a group": (replaced(lambda g, n: g.create_group(n)), "is no array"),
    "references": (replaced(reference), "is of type object"),
    "lost": (replaced(lambda g, n: None), "is missing"),
    "a loop of links": (assigned(h5py.SoftLink("/dense_1/dense_1/kernel:0")), "is a link to elsewhere"),
    "another file": (assigned(h5py.ExternalLink("/etc/passwd", "x")), "is a link to elsewhere"),
    "values in another file": (replaced(external), "lies in another file"),
    "virtual": (replaced(virtual), "lies in another file"),
    "too many": (made((1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10)), "claims 1,099,511,627,776 values"),
    "huge chunks": (made((1, 4), "f4", maxshape=(None, 4), chunks=(1 << 28, 1)), "claims 268,435,456 values"),
    "unusual filter": (made(data=KERNEL, compression="lzf", chunks=(3, 4)), "HDF5's filter 32000; expected deflate"),
    "numbers as names": (renamed([1, 2]), "layer_names of / holds"),
    "not UTF-8": (renamed([b"\xff\xfe"]), r"layer_names of / holds \['.udcff"),
    "one name twice": (renamed([b"dense_1", b"dense_1"]), "expected distinct names"),
    "newlines": (renamed([b"dense\n1"]), "expected distinct names"),
    "no names": (lambda file: file.attrs.__delitem__("layer_names"), "has no attribute layer_names"),
    "null names": (lambda file: file.attrs.__setitem__("layer_names", h5py.Empty("f4")), "h5"),
    "a missing layer": (renamed([b"dense_3"]), "'dense_3' is missing"),
    "a way out": (
        lambda file: file["dense_1"].attrs.update(weight_names=[b"../dense_2/dense_2/kernel:0"]),
        "is missing",
    ),
    "a data set for a group": (renamed([b"dense_1/dense_1/kernel:0"]), "cut off|has no attribute"),
}


def test_weights_are_read_by_layer_and_name(path):
    weights = read_hdf5(path)
    assert list(weights) == ["dense_1", "dense_2"]
    np.testing.assert_array_equal(weights["dense_2"]["dense_2/kernel:0"], KERNEL)
    assert weights["dense_1"]["dense_1/bias:0"].dtype == np.float32


def test_another_process_reads_and_refuses_the_same(path):
    with reading_in_sandbox(read_hdf5, path) as result:
        found = result()
    for layer, arrays in read_hdf5(path).items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[layer][name], values)
    spoil(path, HOSTILE["NaN"][0])
    with reading_in_sandbox(read_hdf5, path) as result, pytest.raises(InputError, match=r"model\.h5: .* is not finite"):
        result()


def test_long_lists_of_names_come_in_pieces(path):
    def cut(file):
        group = file["dense_1"]
        for i, name in enumerate(group.attrs["weight_names"]):
            group.attrs[f"weight_names{i}"] = [name]
        del group.attrs["weight_names"]

    before = read_hdf5(path)["dense_1"]
    spoil(path, cut)
    assert read_hdf5(path)["dense_1"].keys() == before.keys()


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_weights_are_refused_in_one_line(path, change, message):
    (path.parent / "secret").write_bytes(bytes(48))
    spoil(path, change)
    with pytest.raises(InputError, match=message) as caught:
        read_hdf5(path)
    assert "model.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_reader_that_hangs_is_ended(path, monkeypatch):
    monkeypatch.setattr("hsn_v1.io.sandbox.SECONDS", 0.1)
    with reading_in_sandbox(hang, path) as result, pytest.raises(InputError, match="could not be read"):
        result()


def test_a_reader_that_dies_is_one_line(path):
    with reading_in_sandbox(hang, path) as result:
        for child in psutil.Process().children():
            if any("hsn_v1.io.sandbox" in part for part in child.cmdline()):
                child.kill()
        with pytest.raises(InputError, match="so damaged that its reader died"):
            result()


@pytest.mark.slow
def test_no_module_of_the_working_folder_is_taken(path, tmp_path):
    """A folder of images and models may hold a file called h5py.py."""
    (tmp_path / "h5py.py").write_text("raise SystemExit('taken')")
    code = (
        "import sys; sys.path[:] = sys.argv.pop().splitlines()\n"
        "from pathlib import Path\nfrom hsn_v1.io.sandbox import reading_in_sandbox\n"
        "from hsn_v1.io.weights import read_hdf5\n"
        "with reading_in_sandbox(read_hdf5, Path(sys.argv[1])) as result: print(*result())"
    )
    command = [sys.executable, "-c", code, str(path), "\n".join(each for each in sys.path if each)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["dense_1", "dense_2"]
