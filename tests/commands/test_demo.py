import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import demo_01_segment_patches as demo_01
import demo_02_segment_glas_patches as demo_02
from hsn_v1.commands.common import exit_status
from hsn_v1.io import model_files
from hsn_v1.io.writing import write_picture
from hsn_v1.sets import published

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PARAMS = {"input_name": "patches", "htt_mode": "func"}


@pytest.fixture
def demo(monkeypatch):
    def call(*arguments, params=PARAMS, model="toy"):
        monkeypatch.setattr(sys, "argv", ["demo", *map(str, arguments)])
        monkeypatch.setattr(demo_01, "PARAMS", params)
        monkeypatch.setattr(demo_01, "MODEL_NAME", model)
        monkeypatch.setattr(demo_01, "PHANTOM", ("patches", "toy"))
        return exit_status(demo_01.main)

    return call


def test_a_run_ends_with_a_table_and_where_the_files_are(demo, root, tmp_path, capsys):
    assert demo("--root", root, "--out", tmp_path / "there", "--workers", 1, "--grad-cams") == 0
    out, err = capsys.readouterr()
    assert "4 of 4 images" in out
    assert "Not comparable with the published numbers: patches is not the authors' set." in " ".join(out.split())
    assert "0.5505" not in out and "mIoU (excluded)" not in out
    assert f"results in {tmp_path / 'there' / 'index.html'}\n" in out
    assert "0.5505" not in (tmp_path / "there" / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "there" / "func" / "patch" / "b c.png").exists()
    assert [*(tmp_path / "there" / "func" / "gradcam_unadjusted").iterdir()]
    assert err == ""


def test_objects_have_a_table_where_true_ones_are_known(demo, root, capsys):
    for number, file in enumerate(("a#1", "ü")):
        labels = np.eye(20, dtype=np.uint8) * (number + 1)
        write_picture(root / "gt" / "glands" / "glas_multi_gland" / f"{file}.bmp", labels)
    assert demo("--root", root, "--workers", 1, params={"input_name": "glands", "htt_mode": "glas"}) == 0
    out, _ = capsys.readouterr()
    assert "Objects after CRF (glas)" in out
    assert len(re.findall(r"│ all +│ +2 │", out)) == 2
    assert "test A" not in out


def test_quiet_says_nothing(demo, root, capsys):
    assert demo("--root", root, "--quiet", "--workers", 1) == 0
    assert capsys.readouterr() == ("", "")


def test_a_failed_image_is_told_and_makes_the_status_1(demo, root, capsys):
    (root / "img" / "patches" / "b c.png").write_bytes(b"broken")
    assert demo("--root", root, "--workers", 1, "--protocols") == 1
    out, err = capsys.readouterr()
    assert "3 of 4 images" in out and "(excluded)" in out
    (line,) = err.splitlines()
    assert line.startswith(f"failed: {root / 'img' / 'patches' / 'b c.png'}: not an image")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "img").rename(root / "moved"), "img: no such folder"),
        (lambda root: (root / "gt").rename(root / "moved"), "gt/patches/func: no such folder"),
        (lambda root: (root / "data").rename(root / "moved"), "data: no such folder"),
        (lambda root: (root / "data" / "toy.h5").write_bytes(b""), "toy.h5: not a file of Keras weights"),
        (lambda root: (root / "data" / "func_optimal_pcc.npy").write_bytes(b""), "not a file of NumPy's"),
        (lambda root: (root / "out").write_text("a file"), "out/patches: cannot be written to"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(demo, root, capsys, spoil, message):
    spoil(root)
    assert demo("--root", root, "--quiet") == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(("demo_script", "name"), [(demo_01, "01_tuning_patch"), (demo_02, "02_glas_full")])
def test_an_official_set_that_is_not_whole_is_an_error(demo_script, name, tmp_path, monkeypatch, capsys):
    for folder in ("data", "img"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(sys, "argv", ["demo", "--root", str(tmp_path)])
    assert exit_status(demo_script.main) == 2
    expected = f"error: {tmp_path / 'img' / name}: no such folder; it should hold the images\n"
    assert capsys.readouterr() == ("", expected)


def test_without_official_data_phantoms_serve_and_the_first_line_says_so(demo, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published, "REPOSITORY", root)
    monkeypatch.setattr(model_files, "SHIPPED", root / "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert demo("--workers", 1, params={**PARAMS, "input_name": "official"}, model="other") == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'elsewhere'} has no official data")
    assert "phantoms" in first
    assert (tmp_path / "elsewhere" / "out" / "patches" / "func" / "patch" / "b c.png").exists()
    assert not (root / "out").exists()


@pytest.mark.parametrize(
    ("given", "near"), [("", "hsn_data"), ("hsn_dta", "hsn_data"), ("hsn_data/img", "hsn_data"), ("other/none", None)]
)
def test_a_root_without_data_is_an_error_that_names_what_is_near(demo, tmp_path, capsys, given, near):
    for folder in ("data", "img"):
        (tmp_path / "a" / "hsn_data" / folder).mkdir(parents=True)
    root = tmp_path / "a" / given
    assert demo("--root", root) == 2
    out, err = capsys.readouterr()
    assert out == ""
    advice = f"; did you mean {tmp_path / 'a' / near}?" if near else ", as in the authors' download"
    assert err == f"error: {root / 'data'}: no such folder; expected data, img and gt in {root}{advice}\n"
    assert not (root / "out").exists()


def test_importing_the_package_is_quick_and_silent():
    code = (
        "import sys, hsn_v1; heavy = {'tensorflow', 'keras', 'matplotlib.pyplot', 'numpy', 'cv2'} & set(sys.modules);"
        "hsn_v1.HistoSegNetV1; heavy |= {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules); print(heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == ("set()\n", "")
