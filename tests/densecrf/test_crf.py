import io
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsn_v1.densecrf import CRF, image_lattice
from hsn_v1.densecrf import crf as densecrf
from hsn_v1.errors import InputError
from hsn_v1.hsn_v1 import winners

IMAGE = np.full((12, 12, 3), 128, np.uint8)
IMAGE[:, 6:] = 30


def maps(*layers):
    return np.stack([np.full((12, 12), layer, np.float32) for layer in layers])


def test_without_any_mass_nothing_is_refined_and_a_class_alone_takes_every_pixel():
    alone = maps(0, 0, 0)
    assert not CRF()(alone, IMAGE).any()
    alone[2, 3, 4] = 0.1
    assert (winners(CRF()(alone, IMAGE)) == 2).all()


def test_classes_without_mass_take_no_part():
    refined = CRF()(maps(0.4, 0, 0.6), IMAGE)
    assert not refined[1].any()
    np.testing.assert_allclose(refined.sum(axis=0), 1, rtol=1e-5)
    two = CRF()(maps(0.4, 0.6), IMAGE)
    np.testing.assert_array_equal(refined[[0, 2]], two)


def test_borders_move_to_those_of_the_image():
    rough = maps(0.6, 0.3)
    rough[:, :, 5:] = rough[::-1, :, 5:]  # one column too far to the left
    rough[:, 2, 2] = 0.4, 0.5  # and a speck
    expected = np.repeat([[0, 1]], 6, axis=1)
    np.testing.assert_array_equal(winners(CRF(3, 10, 10, 20, 10)(rough, IMAGE)), np.tile(expected, (12, 1)))


def test_arguments_stay_as_they_are():
    given, image = maps(0.4, 0.6), IMAGE.copy()
    CRF()(given, image)
    np.testing.assert_array_equal(given, maps(0.4, 0.6))
    np.testing.assert_array_equal(image, IMAGE)


def test_settings_are_read_in_the_published_order(tmp_path):
    np.save(tmp_path / "x.npy", [[1, 20, 10, 40, 50, 7]])
    crf = CRF(gauss_sxy=1, gauss_compat=20, bilat_sxy=10, bilat_srgb=40, bilat_compat=50)
    assert CRF.from_file(tmp_path / "x.npy") == crf
    assert CRF.from_file(tmp_path / "x.npy", file_iterations=True) == replace(crf, iterations=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((1, 5)), "holds 5 values of type float64, expected 6 positive numbers"),
        (np.array([[1, 20, 10, 40, -50, 5]]), "positive"),
        (np.array([[1, 20, 10, np.nan, 50, 5]]), "positive"),
        (np.array([["a"] * 6]), "type <U1"),
        (np.ones(6, complex), "type complex128"),
        (np.ones(6, bool), "type bool"),
        (np.array([[1, 1e38, 10, 40, 50, 5]]), r"x\.npy: gauss_compat is 1e\+38, expected 0 to 10000"),
        (np.array([[1, 20, 10, 40, np.inf, 5]]), "bilat_compat is inf, expected"),
        (np.array([[1e308, 20, 10, 40, 50, 5]]), "gauss_sxy is 1e\\+308, expected 0.5 to 500"),
        (np.array([[1, 20, 1e-3, 40, 50, 5]]), "bilat_sxy is 0.001, expected 0.5 to 500"),
        (np.array([None] * 6), "not a file of NumPy's"),
    ],
)
def test_bad_settings_are_named(tmp_path, content, message):
    np.save(tmp_path / "x.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        CRF.from_file(tmp_path / "x.npy")


def test_a_broken_file_of_settings_is_named(tmp_path):
    archive = io.BytesIO()
    np.savez(archive, np.ones(6))
    claim = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, claim)
    for content in (b"", b"\x93NUMPY broken", b"text", archive.getvalue(), huge.getvalue()):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npy: not a file of NumPy's"):
            CRF.from_file(tmp_path / "x.npy")


SETTINGS = [CRF(), CRF(1, 20, 10, 40, 50), CRF(3, 40, 10, 4, 25)]


def example(classes, height, width, levels=256, seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.random((classes, height, width), np.float32)
    return maps, rng.integers(0, levels, (height, width, 3)).astype(np.uint8)


def assert_same_as_pydensecrf(crf, maps, image):
    pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf is not installed: nothing to compare with")
    ours, theirs = crf(maps, image), replace(crf, backend="pydensecrf")(maps, image)
    assert (winners(ours) == winners(theirs)).mean() >= 0.99999
    np.testing.assert_allclose(ours, theirs, atol=0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SETTINGS),
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([1, 2, 12, 256]),
    st.integers(0, 2**32 - 1),
)
def test_equals_pydensecrf(crf, classes, height, width, levels, seed):
    assert_same_as_pydensecrf(crf, *example(classes, height, width, levels, seed))


@pytest.mark.parametrize("crf", SETTINGS)
@pytest.mark.parametrize("grey", [0, 7, 255])
def test_equals_pydensecrf_on_constant_images(crf, grey):
    crf_maps, _ = example(3, 33, 35)
    assert_same_as_pydensecrf(crf, crf_maps, np.full((33, 35, 3), grey, np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 260, 390), (12, 224, 224), (40, 100, 90)])
def test_equals_pydensecrf_on_larger_images(shape):
    assert_same_as_pydensecrf(SETTINGS[2], *example(*shape))


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (1, 9, 7), (5, 1, 30), (2, 30, 1)])
def test_probabilities_of_degenerate_sizes(shape):
    refined = CRF()(*example(*shape))
    assert refined.shape == shape
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


def test_no_iterations_is_the_softmax_of_the_unary():
    unary, image = example(6, 11, 13)
    expected = np.clip(unary, 1e-5, 1)
    np.testing.assert_allclose(CRF(iterations=0)(unary, image), expected / expected.sum(axis=0), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 2, 3, 9])
def test_same_bytes_with_any_number_of_threads(classes):
    crf_maps, image = example(classes, 150, 160)
    alone, *others = (SETTINGS[2](crf_maps, image, threads=threads).tobytes() for threads in (1, 2, 8))
    assert all(other == alone for other in others)


def test_label_sets_share_the_lattices_of_an_image(monkeypatch):
    (crf_maps, image), built = example(3, 20, 21), []
    monkeypatch.setattr(densecrf, "image_lattice", lambda *args, **kw: built.append(args) or image_lattice(*args, **kw))
    lattice = cache(partial(densecrf.image_lattice, image))
    first = SETTINGS[0](crf_maps, image, lattice=lattice)
    CRF(3, 1, 10, 20, 2)(crf_maps[:2], image, lattice=lattice)
    assert len(built) == 2
    SETTINGS[2](crf_maps, image, lattice=lattice)  # agrees in the Gaussian alone
    assert len(built) == 3
    np.testing.assert_array_equal(SETTINGS[0](crf_maps, image, lattice=lattice), first)


def test_sizes_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(4, 3, 3\) do not agree"):
        CRF()(np.zeros((2, 3, 4), np.float32), np.zeros((4, 3, 3), np.uint8))


def test_one_lattice_is_kept_for_images_of_one_size():
    assert image_lattice(IMAGE, 3) is image_lattice(IMAGE + 1, (3, 3))
    assert image_lattice(IMAGE, 3) is not image_lattice(IMAGE, (3, 4))
