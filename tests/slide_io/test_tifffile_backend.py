"""TIFFs that OpenSlide does not read, or not as they are."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.slide_io.formats import open_slide_file
from hsn_v1.slide_io.slide import open_slide

RNG = np.random.default_rng(0)
IMAGE = np.kron(RNG.integers(0, 256, (25, 35, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
MPP = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "metadata": None}
RGB = {"photometric": "rgb", **MPP}


def read(path):
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)
        return slide.pixels(), slide.notes


def test_of_several_images_the_largest_is_meant(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for image in (IMAGE[:20, :20], IMAGE, IMAGE[:30, :30]):
            file.write(image, **RGB)
    pixels, notes = read(path)
    np.testing.assert_array_equal(pixels, IMAGE)
    assert notes == (f"{path}: holds 3 images; the largest is read, 140 x 100 px, not those of 20 x 20 px, 30 x 30 px",)


def test_three_channels_of_imagej_are_one_image(tmp_path):
    path = tmp_path / "a.tif"
    channels = np.ascontiguousarray(np.moveaxis(IMAGE, -1, 0))
    tifffile.imwrite(path, channels, imagej=True, resolution=(2, 2), metadata={"axes": "CYX", "unit": "um"})
    pixels, notes = read(path)
    np.testing.assert_array_equal(pixels, IMAGE)
    assert notes == ()


@pytest.mark.parametrize(
    "options", [RGB, {"imagej": True, "metadata": {"axes": "ZYXS"}}, {"ome": True, "photometric": "rgb"}]
)
def test_stacks_are_refused(tmp_path, options):
    path = tmp_path / ("a.ome.tif" if "ome" in options else "a.tif")
    metadata = {"metadata": {"axes": "ZYXS"}} if "ome" in options else {}
    tifffile.imwrite(path, np.stack([IMAGE] * 4), **{**options, **metadata})
    with pytest.raises(InputError, match=r"a stack of planes \(.=4\); save the one to segment as a file of its own"):
        open_slide_file(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{"tile": (64, 64)}, {}, {"compression": "deflate", "tile": (64, 64)}])
def test_pixels_are_taken_as_stored_whatever_the_orientation(tmp_path, orientation, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, extratags=[(274, "H", 1, orientation, True)], **RGB, **options)
    pixels, notes = read(path)
    np.testing.assert_array_equal(pixels, IMAGE)
    assert [f"orientation tag ({orientation})" in note for note in notes] == [True] * (orientation > 1)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_grey_pixels_are_taken_as_stored_too(tmp_path, orientation):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE[..., 0], extratags=[(274, "H", 1, orientation, True)], photometric="minisblack", **MPP)
    pixels, notes = read(path)
    np.testing.assert_array_equal(pixels, np.repeat(IMAGE[..., :1], 3, axis=-1))
    assert any("greyscale, converted to RGB" in note for note in notes)


def test_palette_images_are_left_to_pillow(tmp_path):
    path, image = tmp_path / "a.tif", Image.fromarray(IMAGE).convert("P")
    image.save(path, resolution=50_800, resolution_unit=2)
    with open_slide(path, 0.5) as slide:
        np.testing.assert_array_equal(slide.pixels(), np.asarray(image.convert("RGB")))
        assert any("palette" in note for note in slide.notes)
    image.save(path, tiffinfo={274: 6})
    with pytest.raises(InputError, match="P pixels with an orientation tag; convert it to 8-bit RGB"):
        open_slide_file(path)


@pytest.mark.parametrize("tile", [(64, 64), None])
def test_transparent_pixels_are_white(tmp_path, tile):
    alpha = np.full(IMAGE.shape[:2], 255, np.uint8)
    alpha[:50], alpha[50] = 0, 51
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([IMAGE, alpha]), extrasamples=["unassalpha"], tile=tile, **RGB)
    pixels, notes = read(tmp_path / "a.tif")
    assert (pixels[:50] == 255).all()
    np.testing.assert_array_equal(pixels[50], np.rint(0.2 * IMAGE[50] + 0.8 * 255).astype(np.uint8))
    np.testing.assert_array_equal(pixels[51:], IMAGE[51:])
    assert "transparent pixels are taken as white" in notes[0]


@pytest.mark.parametrize("compression", ["zstd", "webp", "lerc", "jpegxl"])
def test_codecs_that_openslide_lacks_are_read(tmp_path, compression):
    lossless = {"compressionargs": {"lossless": True}} if compression in ("webp", "jpegxl") else {}
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, tile=(64, 64), compression=compression, **lossless, **RGB)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], IMAGE)


def test_a_codec_that_nothing_reads_is_not_taken_for_damage(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, tile=(64, 64), **RGB)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[259].overwrite(60_000)
    with pytest.raises(
        InputError, match=r"compression \(.*60000.*\) is not supported; convert it .*vips tiffsave"
    ) as caught:
        open_slide_file(path)
    assert "get the file again" not in str(caught.value)


def test_a_file_that_ends_before_its_pixels_or_pages_is_damaged(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE[:20, :20], **RGB)
        file.write(IMAGE, **RGB)
    with tifffile.TiffFile(path) as file:
        second = file.pages[1].offset
    path.write_bytes(path.read_bytes()[:second])
    with pytest.raises(InputError, match=r"a\.tif: damaged: it ends before its last page"):
        open_slide_file(path)
    tifffile.imwrite(tmp_path / "b.tif", IMAGE, tile=(64, 64), compression="zstd", **RGB)
    content = (tmp_path / "b.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(content[: len(content) - 10])
    with pytest.raises(InputError, match=r"b\.tif: damaged: it ends before its pixels do"):
        open_slide_file(tmp_path / "b.tif")


@pytest.mark.parametrize("ending", ["svs", "scn", "qptiff"])
def test_a_whole_tiff_with_a_slides_ending_is_read(tmp_path, ending):
    tifffile.imwrite(tmp_path / f"a.{ending}", IMAGE, **RGB)
    np.testing.assert_array_equal(read(tmp_path / f"a.{ending}")[0], IMAGE)


@pytest.mark.parametrize("ending", ["svs", "ndpi", "mrxs", "czi", "dcm"])
def test_an_image_with_a_slides_ending_is_no_plain_image(tmp_path, ending):
    Image.fromarray(IMAGE).save(tmp_path / f"a.{ending}", "png", dpi=(50_800, 50_800))
    with pytest.raises(InputError, match="named as a slide, but holds none that can be read"):
        open_slide_file(tmp_path / f"a.{ending}")


def write_part(path, pixels, names, number=0, **options):
    """Write one of the files of an OME-TIFF, each of which has a channel, or all of them."""
    sizes = 'SizeX="140" SizeY="100" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"'
    parts = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{c:032x}</UUID></TiffData>'
        for c, name in enumerate(names)
    )
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{number:032x}">'
    xml += f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" {sizes}>{parts}</Pixels>'
    tifffile.imwrite(path, pixels, description=f"{xml}</Image></OME>", metadata=None, **options)


@pytest.mark.parametrize("tile", [(16, 16), None])
def test_an_ome_tiff_of_three_files_is_read_from_each(tmp_path, tile):
    names = ("r.ome.tif", "g.ome.tif", "b.ome.tif")
    for c, name in enumerate(names):
        write_part(tmp_path / name, IMAGE[..., c].copy(), names, c, tile=tile)
    for name in names:
        np.testing.assert_array_equal(read(tmp_path / name)[0], IMAGE)
    (tmp_path / "b.ome.tif").unlink()
    with pytest.raises(InputError, match="an OME-TIFF of several files, some of which are not here"):
        open_slide_file(tmp_path / "r.ome.tif")


@pytest.mark.parametrize("name", ["../secret.ome.tif", "/dev/zero", "pipe"])
def test_an_ome_tiff_opens_no_file_elsewhere_and_no_pipe(tmp_path, name):
    folder = tmp_path / "images"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    tifffile.imwrite(tmp_path / "secret.ome.tif", IMAGE, photometric="rgb")
    write_part(folder / "a.ome.tif", IMAGE, [name], photometric="rgb")
    with pytest.raises(InputError, match=f"names '{name}', expected files of its own folder"):
        open_slide_file(folder / "a.ome.tif")
