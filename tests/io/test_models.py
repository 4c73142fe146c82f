"""Where a model's files are looked for, and what is said of those that cannot be opened."""

import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from hsn_v1.adp import ADP
from hsn_v1.errors import InputError
from hsn_v1.io.model_files import SHIPPED, find_model, model_file, read_crfs, read_taxonomy, taxonomy_of
from hsn_v1.io.models import load_histonet, read_thresholds, read_weights, save_histonet
from hsn_v1.labels import Taxonomy

MODEL = "histonet_X1.7_phantom"


@pytest.fixture
def not_root():
    """Work as a user to whom permissions apply, in a folder that he can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    user = os.geteuid() if hasattr(os, "geteuid") else 1
    if user == 0:
        os.seteuid(65534)
    yield folder
    if user == 0:
        os.seteuid(0)
    shutil.rmtree(folder)


def closed(path):
    """Take away all rights, as the owner."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    path.chmod(0)
    os.seteuid(user)


def written_as_owner(path, content):
    user = os.geteuid()
    os.seteuid(os.getuid())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users")
@pytest.mark.parametrize(
    ("suffix", "read"),
    [
        (".json", lambda path: load_histonet(path.parent, MODEL)),
        (".h5", read_weights),
        (".mat", lambda path: read_thresholds(path, 51)),
        (".toml", lambda path: load_histonet(path.parent, MODEL)),
    ],
)
def test_files_without_permission_are_one_line(not_root, suffix, read):
    for each in (".json", ".h5", ".mat", ".toml"):
        written_as_owner(not_root / "data" / f"{MODEL}{each}", (SHIPPED / f"{MODEL}{each}").read_bytes())
    path = not_root / "data" / f"{MODEL}{suffix}"
    closed(path)
    with pytest.raises(InputError, match=rf"{suffix}: cannot be read \(Permission denied\)"):
        read(path)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users")
def test_a_folder_without_permission_is_one_line(not_root):
    written_as_owner(not_root / "data" / "x.json", b"")
    closed(not_root / "data")
    for call in (
        lambda: find_model(not_root, "x"),
        lambda: read_taxonomy(not_root / "data", "x"),
        lambda: load_histonet(not_root / "data", "x"),
        lambda: read_crfs(not_root / "data", "x", (next(iter(read_taxonomy(SHIPPED, MODEL).label_sets.values())),)),
    ):
        with pytest.raises(InputError, match=r"data.*: cannot be opened \(Permission denied\)"):
            call()


@pytest.mark.parametrize("name", ["[", "*", "", "/abs/x", "../x", "a\udcff"])
def test_names_of_any_kind_are_looked_for(tmp_path, name):
    assert find_model(tmp_path, name) == tmp_path / "data"
    with pytest.raises(InputError, match="no such folder"):
        load_histonet(tmp_path / "data", name)


def test_names_that_are_too_long_are_one_line(tmp_path):
    with pytest.raises(InputError, match="File name too long"):
        find_model(tmp_path, "a" * 300)


def test_what_is_shipped_is_found_where_nothing_else_is(tmp_path):
    assert find_model(tmp_path, MODEL) == SHIPPED
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"{MODEL}.mat").write_bytes(b"")
    assert find_model(tmp_path, MODEL) == tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", [MODEL, f"{MODEL}56"])
def test_shipped_models_are_loaded_by_us_and_described_so_that_keras_reads_them(keras, name):
    histonet = load_histonet(SHIPPED, name)
    theirs = keras.models.model_from_json((SHIPPED / f"{name}.json").read_text())
    assert [weight.shape for weight in theirs.weights] == [weight.shape for weight in histonet.model.weights]
    assert isinstance(histonet.labels, Taxonomy)


def test_a_file_of_classes_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.toml").write_bytes("# größer".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.toml: not UTF-8 text"):
        read_taxonomy(tmp_path, "latin")
    assert read_taxonomy(tmp_path, "none") is ADP


def test_an_unknown_model_is_told_which_there_are(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("mine.json", "mine.mat", "half.json"):
        (tmp_path / "data" / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"choose a model that is there: colon_glands, {MODEL}, {MODEL}56, mine$"):
        load_histonet(tmp_path / "data", "mien")
    with pytest.raises(
        InputError, match=f"elsewhere.data: no such folder; .* there: colon_glands, {MODEL}, {MODEL}56$"
    ):
        taxonomy_of(tmp_path / "elsewhere", "mine")


@pytest.mark.parametrize("name", ["my model/x", "../x", "a:b", "CON"])
def test_models_of_any_name_are_saved_inside_the_folder_and_found(tmp_path, toy_model, name):
    text = (files("hsn_v1") / "adp.toml").read_text(encoding="utf-8")
    save_histonet(tmp_path / "data", name, toy_model, np.full(51, 0.5), ADP.codes, text)
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "data"}
    assert find_model(tmp_path, name) == tmp_path / "data"
    assert model_file(tmp_path / "data", name, ".h5").is_file()
    assert taxonomy_of(tmp_path, name).codes == ADP.codes


@pytest.mark.slow
def test_a_classifier_of_real_tissue_is_shipped_with_its_card_and_licences():
    assert find_model(Path("nowhere"), "colon_glands") == SHIPPED
    classifier = load_histonet(SHIPPED, "colon_glands")
    assert classifier.labels.codes == ("other", "gland") and classifier.labels.label_sets["tissue"].background
    assert classifier.labels.stain and classifier.labels.caveat
    scores, cams = classifier(np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32))
    assert scores.shape == (1, 2) and cams.shape[:2] == (1, 2) and cams.min() >= 0
    assert sum(file.stat().st_size for file in SHIPPED.glob("colon_glands*")) < 5_000_000
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    for text in ((SHIPPED / "colon_glands.md").read_text(encoding="utf-8"), notice):
        assert all(words in text for words in ("Apache License", "EBHI-Seg", "CC BY"))
