import pytest

from hsn_v1.errors import InputError
from hsn_v1.slides.results_folder import (
    damage,
    finish,
    give_up,
    publish,
    read_record,
    records,
    replaced_work,
    results_of,
    take_up,
    write_record,
)

RUN = {"input": "a.png", "mpp": 0.5, "label sets": ["morph"]}
FILES = ("a.ome.tif", "a.geojson", "areas.csv", "overview.png", "image.jpg", "mask.png")
OTHER = {**RUN, "mpp": 0.25, "label sets": ["func"]}


def write_results(folder, text):
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(text)


def complete(folder, run, text):
    assert take_up(folder, run, force=True) is None
    for name in run["label sets"]:
        write_results(results_of(folder) / name, text)
    finish(folder, {**run, "notes": []})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a.png"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_results_are_there_once_they_are_complete(folder, tmp_path):
    assert take_up(folder, RUN, force=False) is None
    assert records(tmp_path) == {}
    complete(folder, RUN, "new")
    assert sorted(path.name for path in folder.iterdir()) == ["morph", "run.json"]
    assert take_up(folder, RUN, force=False) == {**RUN, "notes": [], "finished": True} == records(tmp_path)[folder]


def test_results_of_another_run_stay_unless_they_are_replaced_by_complete_ones(folder):
    complete(folder, RUN, "old")
    before = contents(folder)
    with pytest.raises(InputError, match=r"holds results of another run \(mpp: 0\.5, now 0\.25\)"):
        take_up(folder, OTHER, force=False)
    assert contents(folder) == before
    assert take_up(folder, OTHER, force=True) is None
    assert {name: text for name, text in contents(folder).items() if not name.startswith("work")} == before
    complete(folder, OTHER, "new")
    assert contents(folder)["func/areas.csv"] == "new" and "morph/areas.csv" not in contents(folder)


def test_a_run_that_was_killed_is_resumed_by_the_same_and_begun_anew_by_another(folder):
    take_up(folder, RUN, force=False)
    tile = folder / "work" / "tiles" / "000000.npz"
    runs = (RUN, False, True, ""), (OTHER, False, False, "mpp: 0.5, now 0.25"), (OTHER, True, False, "")
    for run, force, kept, told in runs:
        tile.parent.mkdir(exist_ok=True, parents=True)
        tile.write_text("scores")
        (tile.parent / ".1.npz.2.part").write_text("half of it")
        assert told in (note := replaced_work(folder, run)) and bool(told) == bool(note)
        assert take_up(folder, run, force) is None
        assert replaced_work(folder, run) == ""
        assert tile.exists() == kept and not list(folder.rglob("*.part"))


def test_a_replacement_that_was_killed_is_resumed(folder):
    complete(folder, RUN, "old")
    take_up(folder, OTHER, force=True)
    (folder / "work" / "tile").write_text("scores")
    assert take_up(folder, OTHER, force=False) is None
    assert (folder / "work" / "tile").exists()
    assert take_up(folder, RUN, force=False)["finished"]
    assert not (folder / "work").exists()


@pytest.mark.parametrize("moved", [0, 1])
def test_results_that_were_moving_up_go_on_moving(folder, moved):
    complete(folder, RUN, "old")
    take_up(folder, OTHER, force=True)
    write_results(results_of(folder) / "func", "new")
    write_record(results_of(folder), {**OTHER, "finished": True})
    write_record(folder / "work", {**OTHER, "complete": True})
    if moved:
        (results_of(folder) / "func").rename(folder / "func")
    assert take_up(folder, OTHER, force=False)["mpp"] == 0.25
    assert contents(folder)["func/areas.csv"] == "new" and "morph/areas.csv" not in contents(folder)


def test_what_never_succeeded_holds_nobodys_results(folder):
    take_up(folder, RUN, force=False)
    give_up(folder)
    assert not folder.exists()
    take_up(folder, RUN, force=False)
    (folder / "work" / "tile").write_text("scores")
    give_up(folder)
    assert (folder / "work" / "tile").exists()
    assert take_up(folder, OTHER, force=False) is None


def test_giving_up_leaves_earlier_results(folder):
    complete(folder, RUN, "old")
    before = contents(folder)
    take_up(folder, OTHER, force=True)
    give_up(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damaging", ["unlink", "empty"])
def test_results_that_lack_a_file_are_made_anew(folder, name, damaging):
    complete(folder, RUN, "old")
    assert damage(folder) == ""
    file = folder / "morph" / name
    file.unlink() if damaging == "unlink" else file.write_text("")
    assert damage(folder).endswith("is missing or empty")
    with pytest.raises(InputError, match="holds results of another run"):
        take_up(folder, OTHER, force=False)
    assert take_up(folder, RUN, force=False) is None
    write_results(results_of(folder) / "morph", "new")
    finish(folder, RUN)
    assert damage(folder) == "" and contents(folder)["morph/areas.csv"] == "new"
    assert take_up(folder, RUN, force=False)["finished"]


@pytest.mark.parametrize("force", [False, True])
def test_results_whose_record_is_damaged_are_made_anew(folder, force):
    complete(folder, RUN, "old")
    (folder / "run.json").write_text("")
    (folder / ".run.json.0.1.part").write_text("{")
    assert damage(folder) == f"{folder / 'run.json'}: cannot be read"
    assert take_up(folder, OTHER, force) is None


def test_leftovers_of_runs_are_not_files_of_somebody_else(tmp_path):
    for name in (".claim.1", ".run.json.0.1.part"):
        (tmp_path / name).touch()
    assert take_up(tmp_path, RUN, force=False) is None


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(InputError, match="has files that are no results"):
            take_up(tmp_path, RUN, force)
    assert contents(tmp_path) == {"precious.txt": "mine"}


def test_a_record_that_cannot_be_read_is_none(tmp_path):
    for text in ("", "[1]", "{"):
        (tmp_path / "run.json").write_text(text)
        assert read_record(tmp_path) == {}
    with pytest.raises(FileNotFoundError):
        publish(tmp_path)
