import numpy as np
import pytest
from helpers import write_sparse

from hsn_v1.slide_io.slide import open_slide
from hsn_v1.tiles import Window

IMAGE = np.kron(np.random.default_rng(0).integers(1, 256, (32, 32, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


def test_a_slide_is_what_was_scanned_counted_from_its_corner(tmp_path):
    openslide = pytest.importorskip("openslide")
    path = tmp_path / "a.tif"
    write_sparse(path, IMAGE, 0.5)
    with openslide.OpenSlide(path) as file:
        assert file.dimensions == (512, 512) and file.properties["openslide.bounds-x"] == "128"
    with open_slide(path) as slide:
        assert (slide.height, slide.width, slide.corner) == (256, 256, (128, 128))
        np.testing.assert_array_equal(slide.pixels(), IMAGE)
        np.testing.assert_array_equal(slide.read(Window(30, 40, 50, 60), 0.5), IMAGE[30:80, 40:100])
        whole = slide.read(slide.frame(2.0), 2.0)
        assert whole.shape == (64, 64, 3)
        assert np.abs(whole.astype(int) - IMAGE[2::4, 2::4]).mean() < 40  # nothing of what was not scanned
