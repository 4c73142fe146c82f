"""The calls of pydensecrf, against pydensecrf where it is installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsn_v1 import densecrf


def documented(module, utilities, height=48, width=64, labels=5, seed=0):
    """Everything that pydensecrf's documentation shows, by either module."""
    image = np.random.default_rng(seed).integers(0, 8, (height, width, 3)).astype(np.uint8)
    image[: height // 2] //= 4
    annotation = np.random.default_rng(seed).integers(0, labels + 1, (height, width))
    energy = utilities.unary_from_labels(annotation, labels, gt_prob=0.7)
    results = {"unary": energy}

    d = module.DenseCRF2D(width, height, labels)
    d.setUnaryEnergy(energy)
    kernel = {"kernel": module.DIAG_KERNEL, "normalization": module.NORMALIZE_SYMMETRIC}
    d.addPairwiseGaussian(sxy=(3, 3), compat=3, **kernel)
    d.addPairwiseBilateral(sxy=(80, 80), srgb=(13, 13, 13), rgbim=image, compat=10, **kernel)
    results["image"] = d.inference(5)

    short = module.DenseCRF2D(width, height, labels)
    short.setUnary(module.ConstUnary(energy))
    short.addPairwiseGaussian(sxy=3, compat=3)
    short.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    q, tmp1, tmp2 = short.startInference()
    divergences = []
    for _ in range(5):
        divergences.append(short.klDivergence(q))
        short.stepInference(q, tmp1, tmp2)
    results |= {"steps": q, "divergences": divergences}

    generic = module.DenseCRF(height * width, labels)
    generic.setUnaryEnergy(energy)
    features = utilities.create_pairwise_gaussian(sdims=(3, 3), shape=image.shape[:2])
    generic.addPairwiseEnergy(features, compat=3)
    features = utilities.create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2)
    generic.addPairwiseEnergy(features, compat=10)
    results["features"] = generic.inference(5)

    one_channel = module.DenseCRF2D(width, height, labels)
    one_channel.setUnaryEnergy(utilities.unary_from_softmax(np.array(results["image"]), scale=0.9))
    features = utilities.create_pairwise_bilateral(sdims=(10, 10), schan=(0.01,), img=image[..., 0] / 255.0)
    one_channel.addPairwiseEnergy(features, compat=10)
    results["one channel"] = one_channel.inference(5)

    seven = module.DenseCRF(100, labels)
    seven.setUnaryEnergy(np.ascontiguousarray(energy[:, :100]))
    seven.addPairwiseEnergy(np.random.default_rng(seed).normal(size=(7, 100)).astype(np.float32), 4)
    results["seven features"] = seven.inference(5)
    return {name: np.array(result) for name, result in results.items()}


def test_equals_pydensecrf_on_its_documentation():
    theirs = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf is not installed: nothing to compare with")
    utilities = pytest.importorskip("pydensecrf.utils")
    expected, found = documented(theirs, utilities), documented(densecrf, densecrf)
    for name, array in expected.items():
        assert (found[name].shape, found[name].strides) == (array.shape, array.strides)
        np.testing.assert_allclose(found[name], array, atol=1e-5, rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(found[name].argmax(axis=0), array.argmax(axis=0))


@st.composite
def problems(draw):
    width, height, labels = draw(st.integers(1, 30)), draw(st.integers(1, 30)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.integers(0, draw(st.sampled_from([2, 12, 256])), (height, width, 3)).astype(np.uint8)
    shape = draw(st.sampled_from([(), (labels,), (labels, labels)]))

    def weigh():
        return -rng.uniform(-1, 10, shape).astype(np.float32) if shape else rng.uniform(1, 10)

    return {
        "types": (draw(st.integers(0, 2)), draw(st.integers(0, 3))),
        "size": (width, height, labels),
        "energy": rng.uniform(0, 9, (labels, height * width)).astype(np.float32),
        "gaussian": {"sxy": draw(st.sampled_from([3, 2.5, (3, 7)])), "compat": weigh()},
        "bilateral": {
            "sxy": draw(st.sampled_from([10, (10, 5)])),
            "srgb": draw(st.sampled_from([20, (20, 5, 3.5)])),
            "rgbim": image,
            "compat": weigh(),
        },
        "features": rng.normal(0, 2, (draw(st.integers(1, 8)), height * width)).astype(np.float32),
        "steps": draw(st.integers(0, 3)),
    }


def solved(module, problem):
    d = module.DenseCRF2D(*problem["size"])
    d.setUnaryEnergy(problem["energy"])
    kernel, normalization = problem["types"]
    types = {"kernel": module.KernelType(kernel), "normalization": module.NormalizationType(normalization)}
    d.addPairwiseGaussian(**problem["gaussian"], **types)
    d.addPairwiseBilateral(**problem["bilateral"], **types)
    d.addPairwiseEnergy(problem["features"], 2)
    return np.array(d.inference(problem["steps"]))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_equals_pydensecrf_on_any_call(problem):
    theirs = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf is not installed: nothing to compare with")
    ours, expected = solved(densecrf, problem), solved(theirs, problem)
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    assert (ours.argmax(axis=0) == expected.argmax(axis=0)).mean() >= 0.999


def test_steps_are_those_of_inference_and_lower_the_divergence():
    crf = densecrf.DenseCRF2D(9, 7, 3)
    crf.setUnaryEnergy(np.random.default_rng(0).random((3, 63)))
    crf.addPairwiseGaussian(sxy=2, compat=1)
    q, *rest = crf.startInference()
    divergences = [crf.klDivergence(q)]
    for _ in range(4):
        crf.stepInference(q, *rest)
        divergences.append(crf.klDivergence(q))
    np.testing.assert_array_equal(q, crf.inference(4))
    assert divergences == sorted(divergences, reverse=True)
    copied = np.array(crf.startInference()[0], order="C")
    crf.stepInference(copied)
    np.testing.assert_array_equal(copied, crf.inference(1))


def test_a_number_is_a_negative_diagonal():
    def refined(compat):
        crf = densecrf.DenseCRF2D(9, 7, 3)
        crf.setUnaryEnergy(np.random.default_rng(0).random((3, 63)))
        crf.addPairwiseGaussian(sxy=2, compat=compat)
        return crf.inference(2)

    np.testing.assert_array_equal(refined(4), refined(np.full(3, -4)))
    np.testing.assert_allclose(refined(4), refined(np.diag([-4, -4, -4])), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d.setUnaryEnergy(np.zeros((2, 19))), ValueError, r"shape \(2, 19\), expected \(2, 20\)"),
        (lambda d: d.setUnaryEnergy(np.zeros((2, 20)), np.zeros((2, 20))), NotImplementedError, "logistic"),
        (lambda d: d.setUnary(object()), NotImplementedError, "setUnary: object"),
        (lambda d: d.addPairwiseEnergy(np.zeros((3, 19)), 1), ValueError, r"shape \(3, 19\), expected \(d, 20\)"),
        (lambda d: d.addPairwiseEnergy(np.full((3, 20), np.nan), 1), ValueError, "finite"),
        (lambda d: d.addPairwiseGaussian(0, 1), ValueError, "sxy"),
        (lambda d: d.addPairwiseGaussian((1, 2, 3), 1), ValueError, "sxy"),
        (lambda d: d.addPairwiseGaussian(3, [1, 2, 3]), ValueError, r"compat has shape \(3,\)"),
        (lambda d: d.addPairwiseGaussian(3, 1, kernel=7), ValueError, "7 is not a valid KernelType"),
        (lambda d: d.addPairwiseGaussian(3, 1, normalization=4), ValueError, "4 is not a valid NormalizationType"),
        (lambda d: d.addPairwiseBilateral(3, 0, np.zeros((4, 5, 3), np.uint8), 1), ValueError, "srgb"),
        (lambda d: d.addPairwiseBilateral(3, 3, np.zeros((4, 5, 3)), 1), ValueError, "float64 of shape"),
        (lambda d: d.addPairwiseBilateral(3, 3, np.zeros((5, 4, 3), np.uint8), 1), ValueError, r"\(4, 5, 3\)"),
    ],
)
def test_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call(densecrf.DenseCRF2D(5, 4, 2))


def test_a_crf_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 points"):
        densecrf.DenseCRF(0, 2)
