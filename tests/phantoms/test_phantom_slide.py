"""Phantom slides: pyramids that open as slides, with ground truth that fits them."""

import numpy as np
import pytest

from hsn_v1.__main__ import main
from hsn_v1.adp import CLASSIFIER_MPP, FUNC, MORPH
from hsn_v1.errors import InputError
from hsn_v1.io.images import read_image
from hsn_v1.phantoms import phantom_slide
from hsn_v1.phantoms.phantom_slide import Layout, write_outlines, write_slide
from hsn_v1.slide_io.annotations import Regions, class_names, draw_labels, read_annotations, regions_of
from hsn_v1.slide_io.slide import open_slide
from hsn_v1.tiles import Window


@pytest.fixture
def flat(monkeypatch):
    """Make phantoms of one grey level each, which is their class, too."""

    def phantoms(rng, count, field, mpp):
        side = round(phantom_slide.FIELD / CLASSIFIER_MPP)
        classes = np.arange(1, count + 1, dtype=np.uint8)
        labels = np.broadcast_to(classes[:, None, None], (count, side, side))
        images = np.broadcast_to(10 * classes[:, None, None, None], (count, field, field, 3))
        return images, {"morph": labels, "func": np.minimum(labels, 4)}

    monkeypatch.setattr(phantom_slide, "_phantoms", phantoms)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1100, 1537])
def test_a_slide_and_its_ground_truth(tmp_path, flat, size):
    write_slide(tmp_path / "s.tif", size, 1.0, 0.6, seed=3)
    assert {path.name for path in tmp_path.iterdir()} == {"s.tif", "s_morph.png", "s_func.png"}
    with open_slide(tmp_path / "s.tif") as slide:
        assert slide.mpp == pytest.approx(1) and (slide.height, slide.width) == (size, size)
        assert [level.width for level in slide.levels] == [size, size // 4]
        for mpp in (CLASSIFIER_MPP, 4):
            image = slide.read(slide.frame(mpp), mpp)[..., 0].astype(float)
            truth = read_image(tmp_path / "s_morph.png")[0][..., 0]
            if mpp == 4:
                rows = ((np.arange(len(image)) + 0.5) * len(truth) / len(image)).astype(int)
                truth = truth[np.ix_(rows, rows)]
            assert image.shape == truth.shape
            want = np.where(truth == 0, 247, 10.0 * truth)
            wrong = np.abs(image - want) > 8  # only along borders
            assert wrong.mean() < (0.02 if mpp < 2 else 0.06)
    assert 0.55 < (read_image(tmp_path / "s_morph.png")[0] > 0).mean() < 0.65


@pytest.mark.slow
def test_outlines_are_the_ground_truth_s(tmp_path, flat):
    write_slide(tmp_path / "s.tif", 1100, 1.0, 0.6, seed=3)
    truth = read_image(tmp_path / "s_func.png")[0][..., 0]
    path = write_outlines(tmp_path / "s.tif", 1100, "func", 0.1)
    regions, unknown = regions_of(read_annotations(path)[0], class_names(FUNC))
    assert path == tmp_path / "annotations/s.geojson" and unknown == [] and len(regions.limits) == 1
    assert regions.limits[0].area == pytest.approx(0.1 * 1100**2, rel=0.01)
    whole = Regions(regions.geometries, regions.classes)
    drawn = draw_labels(whole, Window(0, 0, *truth.shape), (1100 / len(truth),) * 2, len(FUNC))
    np.testing.assert_array_equal(drawn, truth)


@pytest.mark.slow
def test_a_slide_is_its_seed_s(tmp_path, flat):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_slide(tmp_path / name / "s.tif", 900, 1.0, seed=seed)
    a, b, c = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc")
    assert a == b
    assert all(one != other for one, other in zip(a, c, strict=True))


def test_images_and_labels_are_laid_out_alike():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, (4, 6, 6), np.uint8)
    layout = Layout.draw(rng, 3, 4, 1)
    fine = np.repeat(np.repeat(labels, 2, 1), 2, 2)
    coarse = layout.mosaic(labels, 0, 17, 17)
    np.testing.assert_array_equal(layout.mosaic(fine, 4, 20, 34), np.repeat(np.repeat(coarse, 2, 0), 2, 1)[4:24])
    assert layout.tissue(50, 0, 50).all()
    assert sorted(np.unique(layout.fields)) == [0, 1, 2, 3]


def test_tissue_covers_its_share_at_any_scale():
    for share in (0.2, 0.6, 0.9):
        layout = Layout.draw(np.random.default_rng(1), 3, 4, share)
        assert abs(layout.tissue(640, 0, 640).mean() - share) < 0.01
        coarse, fine = layout.tissue(100, 30, 10), layout.tissue(300, 90, 30)[1::3, 1::3]
        np.testing.assert_array_equal(coarse, fine)


@pytest.mark.slow
def test_the_phantoms_are_real_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", f"- phantom --kind slide --size 256 --mpp 1.5 --tissue 1 --out {tmp_path}".split())
    monkeypatch.setattr(phantom_slide, "FIELD", 255)
    assert main() == 0
    assert "phantom_slide_000000.tif" in capsys.readouterr().out
    for label_set in (MORPH, FUNC):
        labels = read_image(tmp_path / f"phantom_slide_000000_{label_set.name}.png")[0]
        assert labels.shape == (316, 316, 3) and labels.max() < len(label_set)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mpp": 0.23}, r"mpp 0\.23: expected .* such as 0\.25"),
        ({"mpp": 0}, r"mpp 0: expected"),
        ({"mpp": 0.05}, r"mpp 0\.05: expected"),
        ({"size": 255}, r"size 255,"),
        ({"tissue": 0}, r"tissue 0,"),
        ({"tissue": 1.1}, r"tissue 1\.1,"),
        ({"seed": -1}, r"seed -1:"),
    ],
)
def test_impossible_slides_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_slide(**{"path": tmp_path / "s.tif", "size": 1000, **options})


def test_nothing_half_written_is_left(tmp_path, flat, monkeypatch):
    monkeypatch.setattr(phantom_slide, "write_picture", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_slide(tmp_path / "s.tif", 600, 1.0)
    assert not list(tmp_path.iterdir())
