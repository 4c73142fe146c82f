import struct
import unicodedata

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsn_v1.errors import InputError
from hsn_v1.slide_io.multi_file import parts_of_slides
from hsn_v1.slides.inputs import Input, inputs_of, read_list, shard


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(inputs):
    return [item.name for item in inputs]


def problems(inputs):
    return [item.problem for item in inputs if item.problem]


def write_dicom(path, series, kind="VOLUME", size=100, media=""):
    """Write the tags of a DICOM file that say what it is."""

    def tag(group, element, kind, text):
        value = text.encode() + b" " * (len(text) % 2)
        return struct.pack("<HH2sH", group, element, kind, len(value)) + value

    image_type = tag(0x0008, 0x0008, b"CS", f"ORIGINAL\\PRIMARY\\{kind}\\NONE")
    sop = tag(0x0002, 0x0002, b"UI", media) if media else b""
    path.write_bytes(bytes(128) + b"DICM" + sop + image_type + tag(0x0020, 0x000E, b"UI", series) + bytes(size))


def test_images_and_slides_of_a_folder_are_taken_and_the_rest_is_named(tmp_path):
    touch(tmp_path, "b.SVS", "a.png", "c.ome.btf", "d.jp2", "e.webp", "f.czi", "g.avs", "h.qptiff", ".hidden.png")
    touch(tmp_path, "notes.txt", "inner/x.png", "m.mrxs", "m/Data0000.dat", "s.ome.zarr/0/0")
    inputs, notes = inputs_of([tmp_path])
    assert not problems(inputs)
    assert names(inputs) == ["a.png", "b.SVS", "c.ome.btf", "d.jp2", "e.webp", "f.czi", "g.avs", "h.qptiff", "m.mrxs"]
    assert sorted(notes) == [
        f"{tmp_path / 'inner'}: a folder in a folder, which is not searched; name it to segment what it holds",
        f"{tmp_path / 'notes.txt'}: no image or slide by its ending",
        f"{tmp_path / 's.ome.zarr'}: an OME-Zarr folder, which is not read; export it as OME-TIFF",
    ]


def test_files_and_folders_in_any_order_are_taken_once(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    assert names(inputs_of([tmp_path / "b.png", tmp_path])[0]) == ["b.png", "a.png"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere.png", "nowhere.png: no such file"),
        ("l" * 300, "cannot be reached (File name too long); expected a slide, an image, or a folder of such"),
        ("x/" * 2500, "cannot be reached (File name too long)"),
        ("a\0b", "a\\0b: cannot be reached (embedded null byte)"),
        ("a.png/b.png", "a.png/b.png: cannot be reached (Not a directory)"),
        ("shut/b.png", "shut/b.png: cannot be reached (Permission denied)"),
        ("texts", "texts: no images or slides in this folder; expected .png"),
        ("locked", "locked: cannot be read (Permission denied); expected a folder of slides or images"),
        ("s.ome.zarr", "s.ome.zarr: an OME-Zarr folder, which is not read; export it as OME-TIFF"),
        ("zarr", "zarr: an OME-Zarr folder, which is not read"),
        ("list.CSV", "list.CSV: a table by its ending, expected a slide or an image; give a list of slides by `list`"),
    ],
)
def test_an_input_that_cannot_be_used_has_its_problem_and_ends_no_other(tmp_path, monkeypatch, name, problem):
    touch(tmp_path, "a.png", "texts/notes.txt", "locked/b.png", "s.ome.zarr/0/0", "zarr/.zattrs", "list.CSV")
    stat, iterdir = type(tmp_path).stat, type(tmp_path).iterdir  # root may look everywhere

    def denied(path, *arguments, **options):
        if path.parent.name in ("shut", "locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    def no_list(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(type(tmp_path), "stat", denied)
    monkeypatch.setattr(type(tmp_path), "iterdir", no_list)
    (bad, good), _ = inputs_of([tmp_path / name, tmp_path / "a.png"])
    assert problem in bad.problem and len(bad.problem) < 400
    assert good == Input(tmp_path / "a.png", "a.png")


def test_a_dicom_series_is_one_input_and_its_label_none(tmp_path):
    write_dicom(tmp_path / "1.dcm", "1.2.3", size=100)
    write_dicom(tmp_path / "2.dcm", "1.2.3", size=900)
    write_dicom(tmp_path / "3.dcm", "1.2.4", size=100)
    write_dicom(tmp_path / "label.dcm", "1.2.3", "LABEL", 5000)
    write_dicom(tmp_path / "over.dcm", "1.2.9", "OVERVIEW")
    inputs, notes = inputs_of([tmp_path])
    assert names(inputs) == ["2.dcm", "3.dcm"]
    assert notes == [
        f"{tmp_path / 'label.dcm'}: the label image of a DICOM slide",
        f"{tmp_path / 'over.dcm'}: the overview image of a DICOM slide",
        f"{tmp_path / '1.dcm'}: part of the slide 2.dcm",
    ]
    assert names(inputs_of([tmp_path / "1.dcm"])[0]) == ["1.dcm"]  # OpenSlide finds the others
    (label,), _ = inputs_of([tmp_path / "label.dcm"])
    assert label.problem.startswith(f"{tmp_path / 'label.dcm'}: the label image of a DICOM slide, and there is no")


def test_dicom_files_need_no_ending(tmp_path):
    write_dicom(tmp_path / "1.2.840.7", "1.2.3", size=900)
    write_dicom(tmp_path / "thumbnail", "1.2.3", "THUMBNAIL")
    write_dicom(tmp_path / "DICOMDIR", "", media="1.2.840.10008.1.3.10")
    touch(tmp_path, "README")
    inputs, notes = inputs_of([tmp_path])
    assert names(inputs) == ["1.2.840.7"]
    assert notes == [
        f"{tmp_path / 'README'}: no image or slide by its ending",
        f"{tmp_path / 'DICOMDIR'}: a table of contents of DICOM files",
        f"{tmp_path / 'thumbnail'}: the thumbnail image of a DICOM slide",
    ]


def test_the_images_that_a_vms_file_names_are_no_inputs(tmp_path):
    touch(tmp_path, "a.jpg", "a_map2.jpg", "other.jpg")
    (tmp_path / "a.vms").write_text("[Virtual Microscope Specimen]\nImageFile=a.jpg\nMapFile=a_map2.jpg\n")
    inputs, notes = inputs_of([tmp_path])
    assert names(inputs) == ["a.vms", "other.jpg"]
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


# --- Lists ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    for name in ("a.svs", "b.tif", "c #1.png"):
        (tmp_path / name).write_bytes(b"")

    def write(text, encoding="utf-8"):
        (tmp_path / "list.csv").write_bytes(text.encode(encoding))
        return tmp_path / "list.csv"

    return write


def test_a_list_says_what_to_segment_and_keeps_the_users_columns(write, tmp_path):
    table = write("patient,path,mpp,name,labels,model\nP1,a.svs,0.25,first,func,mine\nP2,b.tif,,,,\n\n", "utf-8-sig")
    inputs, problems = read_list(table)
    assert problems == []
    assert inputs == [
        Input(tmp_path / "a.svs", "first", 0.25, "func", "mine", {"patient": "P1"}),
        Input(tmp_path / "b.tif", "b.tif", None, None, None, {"patient": "P2"}),
    ]


def test_all_that_is_wrong_is_told_at_once(write, tmp_path):
    table = write(
        "path,mpp,name\na.svs,,x\nb.tif,,x\nnone.svs,,\nb.tif,20x,\nb.tif,nan,\nb.tif,-1,\n,,y\nb.tif\na.svs,,../up\nb.tif,,\n"
    )
    inputs, problems = read_list(table)
    assert [item.name for item in inputs] == ["x", "b.tif"]
    expected = [
        "line 3: the name 'x' is on line 2 already",
        f"line 4: {tmp_path / 'none.svs'}: no such file",
        "line 5: mpp is '20x'; expected microns per pixel",
        "line 6: mpp is 'nan'",
        "line 7: mpp is '-1'",
        "line 8: no path",
        "line 9: more or fewer cells",
        "line 10: the name '../up' is not that of a folder",
    ]
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(f"{table}, {start}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("file,mpp\na.svs,1\n", "no column 'path'; its columns are file, mpp"),
        ("path\n", "no ro"),
        ("path\n\0\n\0\0\n", r"list\.csv: cannot be read"),
    ],
)
def test_what_is_no_list_is_refused(write, tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_list(write(text))
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_list(tmp_path / "none.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "Path;mpp;patient\nin\\fäll.tif;0,5;P1\n",
        "path\tMPP\tpatient\tlabels\r\nIN/FÄLL.tif\t0.5\tP1\t\r\n",
        "sep=;\npath;patient;mpp\n./in/fäll.TIF; P1;0.5\n",
    ],
)
def test_lists_as_people_have_them(write, tmp_path, text, encoding):
    file = tmp_path / "in" / unicodedata.normalize("NFD", "fäll.tif")
    touch(tmp_path, file)
    inputs, problems = read_list(write(text, encoding))
    assert problems == []
    assert inputs == [Input(file, file.name, 0.5, columns={"patient": "P1"})]


def test_a_list_names_files_by_their_endings_and_no_folders(write, tmp_path):
    touch(tmp_path, "in/a.tif")
    inputs, problems = read_list(write("path\nin/a.png\nin\n"))
    assert inputs == []
    assert [problem.partition(f"{tmp_path / 'in'}")[2].partition(";")[0] for problem in problems] == [
        "/a.png: no such file",
        ": a folder",
    ]


def test_shards_are_a_partition():
    inputs = [Input(None, str(number)) for number in range(10)]
    parts = [shard(inputs, number, 3) for number in (1, 2, 3)]
    assert sorted((item for part in parts for item in part), key=lambda item: int(item.name)) == inputs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
