import numpy as np
import pytest
import tifffile
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.slide_io.multi_file import parts_of_slides
from hsn_v1.slides.inputs import expand


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(files):
    return [file.name for file in files]


def write_dicom(path, series, kind="VOLUME", size=100):
    """Write the tags of a DICOM file that say what it is."""

    def tag(group, element, kind, text):
        value = text.encode() + b" " * (len(text) % 2)
        return (
            group.to_bytes(2, "little")
            + element.to_bytes(2, "little")
            + kind
            + len(value).to_bytes(2, "little")
            + value
        )

    image_type = tag(0x0008, 0x0008, b"CS", f"ORIGINAL\\PRIMARY\\{kind}\\NONE")
    path.write_bytes(bytes(128) + b"DICM" + image_type + tag(0x0020, 0x000E, b"UI", series) + bytes(size))


def test_images_and_slides_of_a_folder_are_taken_and_the_rest_is_named(tmp_path):
    touch(tmp_path, "b.SVS", "a.png", "c.ome.btf", "d.jp2", "e.webp", "f.czi", "g.avs", "h.qptiff", ".hidden.png")
    touch(tmp_path, "notes.txt", "inner/x.png", "m.mrxs", "m/Data0000.dat")
    files, notes = expand([tmp_path])
    assert names(files) == ["a.png", "b.SVS", "c.ome.btf", "d.jp2", "e.webp", "f.czi", "g.avs", "h.qptiff", "m.mrxs"]
    assert sorted(notes) == [
        f"{tmp_path / 'inner'}: a folder in a folder, which is not searched; name it to segment what it holds",
        f"{tmp_path / 'notes.txt'}: no image or slide by its ending",
    ]


def test_files_and_folders_in_any_order_are_taken_once(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    assert names(expand([tmp_path / "b.png", tmp_path])[0]) == ["b.png", "a.png"]


def test_a_folder_without_images_is_an_error(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"no images or slides in this folder; expected \.png"):
        expand([tmp_path])


def test_a_dicom_series_is_one_input_and_its_label_none(tmp_path):
    write_dicom(tmp_path / "1.dcm", "1.2.3", size=100)
    write_dicom(tmp_path / "2.dcm", "1.2.3", size=900)
    write_dicom(tmp_path / "3.dcm", "1.2.4", size=100)
    write_dicom(tmp_path / "label.dcm", "1.2.3", "LABEL", 5000)
    write_dicom(tmp_path / "over.dcm", "1.2.9", "OVERVIEW")
    files, notes = expand([tmp_path])
    assert names(files) == ["2.dcm", "3.dcm"]
    assert notes == [
        f"{tmp_path / 'label.dcm'}: the label image of a DICOM slide",
        f"{tmp_path / 'over.dcm'}: the overview image of a DICOM slide",
        f"{tmp_path / '1.dcm'}: part of the slide 2.dcm",
    ]
    assert names(expand([tmp_path / "1.dcm"])[0]) == ["1.dcm"]  # OpenSlide finds the others
    with pytest.raises(InputError, match=r"label\.dcm: the label image of a DICOM slide"):
        expand([tmp_path / "label.dcm"])


def test_the_images_that_a_vms_file_names_are_no_inputs(tmp_path):
    touch(tmp_path, "a.jpg", "a_map2.jpg", "other.jpg")
    (tmp_path / "a.vms").write_text("[Virtual Microscope Specimen]\nImageFile=a.jpg\nMapFile=a_map2.jpg\n")
    files, notes = expand([tmp_path])
    assert names(files) == ["a.vms", "other.jpg"]
    assert notes == [f"{tmp_path / name}: part of the slide a.vms" for name in ("a.jpg", "a_map2.jpg")]


def test_an_ome_tiff_of_several_files_is_one_input(tmp_path):
    uuids = {name: f"urn:uuid:{index:032x}" for index, name in enumerate(("r.ome.tif", "g.ome.tif"))}
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for c, (name, uuid) in enumerate(uuids.items())
    )
    for name, uuid in uuids.items():
        xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">'
        xml += '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="8" SizeY="8" SizeC="2" SizeZ="1" '
        xml += f'SizeT="1">{data}</Pixels></Image></OME>'
        tifffile.imwrite(tmp_path / name, np.zeros((8, 8), np.uint8), description=xml, metadata=None)
    tifffile.imwrite(tmp_path / "other.ome.tif", np.zeros((8, 8, 3), np.uint8), ome=True)
    files = [tmp_path / name for name in ("r.ome.tif", "g.ome.tif", "other.ome.tif")]
    assert parts_of_slides(files) == {tmp_path / "r.ome.tif": "part of the slide g.ome.tif"}


def test_what_cannot_be_read_is_left_to_the_reader(tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    (tmp_path / "b.ome.tif").write_text("broken")
    (tmp_path / "c.dcm").write_text("broken")
    (tmp_path / "d.vms").write_text("broken")
    assert parts_of_slides(tmp_path.iterdir()) == {}
