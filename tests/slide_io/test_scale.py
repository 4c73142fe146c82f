"""Which scale counts, where a file's statements and the user's differ."""

import pytest

from hsn_v1.errors import InputError
from hsn_v1.slide_io.scale import choose_mpp, is_plausible, mpp_of_objective

#: What a file states, the scale that is given, and whether it overrides; what counts, and what is noted.
COUNTS = {
    "the file's": ([(0.25, 0.25)], None, False, 0.25, ""),
    "the file's, rather": (
        [(0.25, 0.25)],
        0.5,
        False,
        0.25,
        "the file states 0.25 mpp, which counts, not the 0.5 given",
    ),
    "the user's by override": ([(0.25, 0.25)], 0.5, True, 0.5, "0.5 mpp as given, though the file states 0.25"),
    "nearly the same": ([(0.25, 0.25)], 0.2505, True, 0.2505, ""),
    "the plausible one": ([(84.7, 84.7), (0.5, 0.5)], None, False, 0.5, ""),
    "where the file's is a printer's": ([(10.16, 10.16)], 0.25, False, 0.25, ""),
    "nearly square": ([(0.25, 0.251)], None, False, 0.2505, ""),
    "not square, overridden": ([(0.5, 0.25)], 0.25, True, 0.25, "0.25 mpp as given, though the file states 0.375"),
}


@pytest.mark.parametrize(("stated", "given", "override", "mpp", "note"), COUNTS.values(), ids=COUNTS)
def test_what_counts(stated, given, override, mpp, note):
    chosen, notes = choose_mpp(tuple(stated), None, given, override)
    assert chosen == pytest.approx(mpp) and "".join(notes).startswith(note) and len(notes) == bool(note)


@pytest.mark.parametrize(
    ("stated", "objective", "message"),
    [
        ((), None, r"^the file does not state its scale; give `mpp` .* 0\.25 for a 40x .*`objective`$"),
        ((), "20", r"^the file does not state its scale \(it names a 20x objective\); give"),
        (((352.8, 352.8),), None, r"^the file states 352\.8 mpp \(72 dpi\), which is implausible .*; give "),
        (
            ((0.01, 0.02),),
            None,
            r"^the file states 0\.02 x 0\.01 mpp, which is implausible \(expected 0\.05 to 10\); give ",
        ),
        (((0.5, 0.25),), None, r"^pixels of 0\.25 x 0\.5 microns"),
    ],
)
def test_what_is_no_scale(stated, objective, message):
    with pytest.raises(InputError, match=message):
        choose_mpp(stated, objective, None, False)


def test_scales_and_objectives_that_there_are():
    assert not any(map(is_plausible, [0, -1, 0.01, 72, float("nan")])) and is_plausible(0.05, 10)
    assert [mpp_of_objective(text) for text in ("20x", "40X", "10", " 2.5x")] == [0.5, 0.25, 1, 4]
    for text in ("", "x", "0x", "-20x", "nan", "inf", "20y"):
        with pytest.raises(InputError, match=r"objective .*: expected a magnification, such as 20x"):
            mpp_of_objective(text)
