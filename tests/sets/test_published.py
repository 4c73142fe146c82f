"""Official data or phantoms; what is wrong with a root is in tests/commands/test_demo.py, as users see it."""

from hsn_v1.sets.published import REPOSITORY, choose_data

ARGUMENTS = {"input_name": "official"}, "model", ("phantoms", "phantom_model")


def test_official_data_are_chosen_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = choose_data(*ARGUMENTS)
    assert (data.root, data.params["input_name"], data.model_name) == (REPOSITORY, "phantoms", "phantom_model")
    assert data.note and data.out.parts == ("out", "phantoms")
    (tmp_path / "img" / "official").mkdir(parents=True)
    data = choose_data(*ARGUMENTS)
    assert (data.root.absolute(), data.params["input_name"], data.model_name) == (tmp_path, "official", "model")
    assert not data.note and data.out.parts == ("out", "official")


def test_a_root_that_is_given_never_gives_phantoms(tmp_path):
    for folder in ("data", "img"):
        (tmp_path / folder).mkdir()
    data = choose_data(*ARGUMENTS, tmp_path)
    assert (data.root, data.out, data.model_name) == (tmp_path, tmp_path / "out" / "official", "model")
