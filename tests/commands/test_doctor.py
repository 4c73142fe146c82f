"""The command ``doctor``: what works is told, and what is broken stops nothing."""

import json

import pytest

from hsn_v1.commands import doctor


def broken():
    raise OSError("no such\nlibrary")


def test_what_is_broken_is_told_and_the_others_are_looked_at(monkeypatch, command):
    monkeypatch.setattr(doctor, "CHECKS", {"first": lambda: "good", "second": broken, "third": lambda: "good, too"})
    status, out, err = command("doctor")
    assert (status, err) == (1, "")
    first, second, third = out.splitlines()
    assert first.split() == ["ok", "first", "good"] and "OSError: no such library" in second and "third" in third
    assert second.startswith("FAILS")
    status, out, _ = command("doctor", "--json")
    assert status == 1 and json.loads(out)["second"] == {"works": False, "text": "OSError: no such library"}


def test_a_stage_that_gives_other_numbers_is_named(monkeypatch):
    numbers = {**doctor.EXPECTED, "Adjust": [0.5, *doctor.EXPECTED["Adjust"][1:]]}
    monkeypatch.setattr(doctor, "stage_numbers", lambda: numbers)
    with pytest.raises(doctor.InputError, match=r"other numbers than stored after Adjust$"):
        doctor._self_test()


@pytest.mark.slow
def test_all_works_here(command):
    status, out, _ = command("doctor", "--json")
    found = json.loads(out)
    assert status == 0, {name: result for name, result in found.items() if not result["works"]}
    assert found.keys() == doctor.CHECKS.keys()
    assert "after scores, GradCAM, Adjust, CRF" in found["self-test"]["text"]
    assert "TensorFlow" in found["tensorflow"]["text"] and "are read" in found["slides"]["text"]
