import pytest

from hsn_v1.errors import InputError
from hsn_v1.slides.record import claim, finish, give_up, publish, read_record, records, results_of, write_record

RUN = {"input": "a.png", "mpp": 0.5, "label sets": ["morph"]}
OTHER = {**RUN, "mpp": 0.25, "label sets": ["func"]}


def complete(folder, run, text):
    assert claim(folder, run, force=True) is None
    for name in run["label sets"]:
        (results_of(folder) / name).mkdir(parents=True)
        (results_of(folder) / name / "areas.csv").write_text(text)
    finish(folder, {**run, "notes": []})


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_results_are_there_once_they_are_complete(tmp_path):
    folder = tmp_path / "a.png"
    assert claim(folder, RUN, force=False) is None
    assert records(tmp_path) == {}
    complete(folder, RUN, "new")
    assert sorted(path.name for path in folder.iterdir()) == ["morph", "run.json"]
    assert claim(folder, RUN, force=False) == {**RUN, "notes": [], "finished": True} == records(tmp_path)[folder]


def test_results_of_another_run_stay_unless_they_are_replaced_by_complete_ones(tmp_path):
    folder = tmp_path / "a.png"
    complete(folder, RUN, "old")
    before = contents(folder)
    with pytest.raises(InputError, match=r"holds results of another run \(mpp: 0\.5, now 0\.25\)"):
        claim(folder, OTHER, force=False)
    assert contents(folder) == before
    assert claim(folder, OTHER, force=True) is None
    assert {name: text for name, text in contents(folder).items() if not name.startswith("work")} == before
    complete(folder, OTHER, "new")
    assert contents(folder)["func/areas.csv"] == "new" and "morph/areas.csv" not in contents(folder)


def test_a_run_that_was_killed_is_resumed_by_the_same_and_begun_anew_by_another(tmp_path):
    folder = tmp_path / "a.png"
    claim(folder, RUN, force=False)
    tile = folder / "work" / "tiles" / "000000.npz"
    for run, force, kept in ((RUN, False, True), (OTHER, False, False), (OTHER, True, False)):
        tile.parent.mkdir(exist_ok=True, parents=True)
        tile.write_text("scores")
        (tile.parent / ".1.npz.2.part").write_text("half of it")
        assert claim(folder, run, force) is None
        assert tile.exists() == kept and not list(folder.rglob("*.part"))


def test_a_replacement_that_was_killed_is_resumed(tmp_path):
    folder = tmp_path / "a.png"
    complete(folder, RUN, "old")
    claim(folder, OTHER, force=True)
    (folder / "work" / "tile").write_text("scores")
    assert claim(folder, OTHER, force=False) is None
    assert (folder / "work" / "tile").exists()
    assert claim(folder, RUN, force=False)["finished"]
    assert not (folder / "work").exists()


@pytest.mark.parametrize("moved", [0, 1])
def test_results_that_were_moving_up_go_on_moving(tmp_path, moved):
    folder = tmp_path / "a.png"
    complete(folder, RUN, "old")
    claim(folder, OTHER, force=True)
    (results_of(folder) / "func").mkdir(parents=True)
    (results_of(folder) / "func" / "areas.csv").write_text("new")
    write_record(results_of(folder), {**OTHER, "finished": True})
    write_record(folder / "work", {**OTHER, "complete": True})
    if moved:
        (results_of(folder) / "func").rename(folder / "func")
    assert claim(folder, OTHER, force=False)["mpp"] == 0.25
    assert contents(folder)["func/areas.csv"] == "new" and "morph/areas.csv" not in contents(folder)


def test_what_never_succeeded_holds_nobodys_results(tmp_path):
    folder = tmp_path / "a.png"
    claim(folder, RUN, force=False)
    give_up(folder)
    assert not folder.exists()
    claim(folder, RUN, force=False)
    (folder / "work" / "tile").write_text("scores")
    give_up(folder)
    assert (folder / "work" / "tile").exists()
    assert claim(folder, OTHER, force=False) is None


def test_giving_up_leaves_earlier_results(tmp_path):
    folder = tmp_path / "a.png"
    complete(folder, RUN, "old")
    before = contents(folder)
    claim(folder, OTHER, force=True)
    give_up(folder)
    assert contents(folder) == before


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(InputError, match="has files that are no results"):
            claim(tmp_path, RUN, force)
    assert contents(tmp_path) == {"precious.txt": "mine"}


def test_a_record_that_cannot_be_read_is_none(tmp_path):
    for text in ("", "[1]", "{"):
        (tmp_path / "run.json").write_text(text)
        assert read_record(tmp_path) == {}
    with pytest.raises(FileNotFoundError):
        publish(tmp_path)
