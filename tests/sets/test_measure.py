"""Sets of any classifier's, in any folder: their masks are measured as they were made, and need not be made again."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from invented import INVENTED, TISSUE, ChannelClassifier, write_set

from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.evaluate import PROTOCOLS
from hsn_v1.io.masks import write_mask
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import STAGES
from hsn_v1.sets.report import tables_of
from hsn_v1.sets.run import run
from hsn_v1.sets.settings import settings_of_folder

pytestmark = pytest.mark.slow

FILES = ("a-[1 1 0].png", "b.tif", "c.png")


@pytest.fixture
def settings(tmp_path):
    write_set(tmp_path, FILES)
    found = settings_of_folder(
        tmp_path / "img", INVENTED, (TISSUE,), tmp_path / "out", tmp_path / "mask", workers=1, resume=True
    )
    return replace(found, crfs={"tissue": CRF(bilat_compat=1, gauss_compat=1)})


class CountingClassifier(ChannelClassifier):
    def __call__(self, tiles):
        seen.extend(tiles)
        return super().__call__(tiles)


seen = []


def classified(settings, classifier=CountingClassifier()):  # noqa: B008
    """Run, and return the report and how many tiles were classified."""
    seen.clear()
    return run(settings, classifier), len(seen)


def test_a_folder_of_images_and_palette_masks_of_any_classes(settings):
    report, count = classified(settings)
    assert (report.files, report.failures, count) == (FILES, {}, 3)
    assert report.confusions["tissue", "CRF"].sum() == 3 * 32 * 32
    assert report.metrics("tissue", "CRF")["mIoU (present)"] > 0.9
    names = [metric for _, metric, *_ in tables_of(report)[-1].rows]
    assert names == [f"{m} ({p})" for p in PROTOCOLS for m in ("mIoU", "mean Dice", "fwIoU", "pixel accuracy")]
    lines = (settings.out / "tissue_protocol_metrics.csv").read_text().splitlines()
    assert lines[0] == "stage,protocol,metric,class,value"
    assert len(lines) == 1 + len(STAGES) * len(PROTOCOLS) * (2 * 3 + 4)
    assert not [line for line in lines if ",Bare," in line]


def test_what_is_written_is_measured_and_not_made_again(settings):
    first, _ = classified(settings)
    (settings.out / "work" / "c.png.json").unlink()  # as if the run had been killed
    again, count = classified(settings)
    assert count == 1
    for key, confusion in first.confusions.items():
        np.testing.assert_array_equal(again.confusions[key], confusion)
    for before, after in zip(first.results, again.results, strict=True):
        assert (before.size, before.scores, before.unresponsive) == (after.size, after.scores, after.unresponsive)
        assert all((after.areas[key] == area).all() for key, area in before.areas.items())


def test_all_is_made_again_by_another_classifier_or_crf(settings):
    classified(settings)
    assert classified(settings)[1] == 0
    assert classified(settings, CountingClassifier(identity="other"))[1] == 3
    assert classified(replace(settings, crfs={"tissue": CRF()}), CountingClassifier(identity="other"))[1] == 3
    with pytest.raises(InputError, match=r"another run \(CRF, tissue, gauss_compat: [0-9.]+, now 1\)"):
        classified(replace(settings, anew="none"), CountingClassifier(identity="other"))
    assert classified(replace(settings, resume=False))[1] == 3
    assert classified(settings)[1] == 3  # who made what is there is not known
    assert classified(replace(settings, anew="all"))[1] == 3 and classified(settings)[1] == 0
    os.utime(settings.images[0], (0, 0))
    assert classified(settings)[1] == 1


def test_masks_that_do_not_fit_fail_their_image(settings, tmp_path):
    write_mask(tmp_path / "mask" / "b.png", np.zeros((16, 16), np.uint8), TISSUE)
    write_picture(tmp_path / "mask" / "c.png", np.full((32, 32), 9, np.uint8))
    report, _ = classified(settings)
    assert report.files == FILES[:1]
    assert "mask/b.png: 16 x 16 px, expected 32 x 32" in report.failures["b.tif"]
    assert "mask/c.png: index 9, expected 0 to 3" in report.failures["c.png"]
    shutil.rmtree(settings.out)
    with pytest.raises(InputError, match="index 9"):
        classified(replace(settings, images=settings.images[2:]))
    assert not settings.out.exists()


def test_a_folder_without_images_or_masks_is_named(tmp_path):
    write_set(tmp_path, FILES)
    with pytest.raises(InputError, match="no images; expected PNG, JPEG, TIFF or BMP files"):
        settings_of_folder(tmp_path, INVENTED, (TISSUE,), tmp_path / "out")
    with pytest.raises(InputError, match="masks: no such folder; it should hold a mask of each image"):
        settings_of_folder(tmp_path / "img", INVENTED, (TISSUE,), tmp_path / "out", tmp_path / "masks")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_what_is_damaged_of_an_image_is_made_anew_and_said(settings, content):
    expected, _ = classified(settings)
    (settings.out / "work" / "c.png.json").write_bytes(content)
    mask = settings.out / "tissue" / "ablative_CRF" / f"{FILES[0]}"
    mask.write_bytes(mask.read_bytes()[:-30])
    (settings.out / "run.json").write_bytes(content)
    again, count = classified(settings)
    assert count == 2
    assert again.metrics("tissue", "CRF") == expected.metrics("tissue", "CRF")
    assert [note for note in again.notes if "was made anew" in note] == [
        f"{settings.images[0]}: what was written of it before is damaged, or of another image: it was made anew "
        "(1 more file likewise)"
    ]
    (settings.out / "settings.json").write_bytes(content)
    assert classified(settings)[1] == 3
