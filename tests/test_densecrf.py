import numpy as np
import pytest

from hsn_v1.densecrf import DenseCRF
from hsn_v1.errors import InputError
from hsn_v1.hsn_v1 import winners

IMAGE = np.full((12, 12, 3), 128, np.uint8)
IMAGE[:, 6:] = 30


def maps(*layers):
    return np.stack([np.full((12, 12), layer, np.float32) for layer in layers])


def test_without_any_mass_nothing_is_refined():
    refined = DenseCRF()(maps(0, 0, 0), IMAGE)
    assert not refined.any()
    assert not winners(refined).any()


def test_a_class_alone_takes_every_pixel():
    alone = maps(0, 0, 0)
    alone[2, 3, 4] = 0.1
    assert (winners(DenseCRF()(alone, IMAGE)) == 2).all()


def test_classes_without_mass_take_no_part():
    refined = DenseCRF()(maps(0.4, 0, 0.6), IMAGE)
    assert not refined[1].any()
    np.testing.assert_allclose(refined.sum(axis=0), 1, rtol=1e-5)
    two = DenseCRF()(maps(0.4, 0.6), IMAGE)
    np.testing.assert_array_equal(refined[[0, 2]], two)


def test_borders_move_to_those_of_the_image():
    rough = maps(0.6, 0.3)
    rough[:, :, 5:] = rough[::-1, :, 5:]  # one column too far to the left
    rough[:, 2, 2] = 0.4, 0.5  # and a speck
    expected = np.repeat([[0, 1]], 6, axis=1)
    np.testing.assert_array_equal(winners(DenseCRF(3, 10, 10, 20, 10)(rough, IMAGE)), np.tile(expected, (12, 1)))


def test_arguments_stay_as_they_are():
    before, image = maps(0.4, 0.6), IMAGE.copy()
    argument = before.copy()
    DenseCRF()(argument, image)
    np.testing.assert_array_equal(argument, before)
    np.testing.assert_array_equal(image, IMAGE)


def test_settings_are_read_in_the_published_order(tmp_path):
    np.save(tmp_path / "x.npy", [[1, 20, 10, 40, 50, 5]])
    crf = DenseCRF.from_file(tmp_path / "x.npy")
    assert crf == DenseCRF(gauss_sxy=1, gauss_compat=20, bilat_sxy=10, bilat_srgb=40, bilat_compat=50)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((1, 5)), "holds 5 values of type float64, expected 6 positive numbers"),
        (np.array([[1, 20, 10, 40, -50, 5]]), "positive"),
        (np.array([[1, 20, 10, np.nan, 50, 5]]), "positive"),
        (np.array([["a"] * 6]), "type <U1"),
        (np.array([None] * 6), "not a file of NumPy's"),
    ],
)
def test_bad_settings_are_named(tmp_path, content, message):
    np.save(tmp_path / "x.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        DenseCRF.from_file(tmp_path / "x.npy")


def test_a_broken_file_of_settings_is_named(tmp_path):
    for content in (b"", b"\x93NUMPY broken", b"text"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npy: not a file of NumPy's"):
            DenseCRF.from_file(tmp_path / "x.npy")
