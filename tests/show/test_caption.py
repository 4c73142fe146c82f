import numpy as np

from hsn_v1.show.caption import captioned


def test_a_caption_is_under_the_picture_on_as_many_lines_as_it_needs():
    picture = np.full((40, 300, 3), 200, np.uint8)
    sheet = captioned(picture, "segmented by a classifier that knows no real tissue: not a medical result")
    np.testing.assert_array_equal(sheet[:40], picture)
    below = sheet[40:].min(axis=(1, 2)) < 128
    assert np.diff(below.astype(int)).clip(0).sum() >= 2  # it needs two lines at least
    assert captioned(picture, "") is picture
