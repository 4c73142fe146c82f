"""Options: numbers have ranges, folders are there, and what cannot be used is one line."""

import argparse

import pytest

from hsn_v1.__main__ import build_parser
from hsn_v1.commands.options import decimal, whole
from hsn_v1.errors import InputError

(SUBPARSERS,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
NUMBERS = {
    f"{command} {action.option_strings[0]}": action.type
    for command, parser in SUBPARSERS.choices.items()
    for action in parser._actions
    if (isinstance(action.type, type) and action.type in (int, float))
    or getattr(action.type, "__name__", "") == "checked"
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["-1", "1e30", "100000000000000", "nan", "inf", "-inf", "abc", "", "1,5"])
def test_each_number_has_a_range(name, text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected .* from .* to .*, not"):
        NUMBERS[name](text)


def test_the_ends_of_a_range_belong_to_it():
    assert [whole(2, 5)(text) for text in "25"] == [2, 5] and decimal(0.5, 1)("0.5") == 0.5
    for text in ("1", "6", "2.0"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"a whole number from 2 to 5, not '{text}'"):
            whole(2, 5)(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "the following arguments are required: --name; see hsn-v1 train --help"),
        (["train", "--name", "x", "--tile", "0"], "--tile: expected a whole number from 8 to 4,096, not '0'; see"),
        (["phantom", "--kind", "egg"], "--kind: invalid choice: 'egg'"),
        (["segment", "a.png", "--mpp", "1e9"], "--mpp: expected microns per pixel from 0.05 to 10, not '1e9'"),
        (["evaluate", "--root", "no/where"], "--root: no/where: no such folder"),
        (["no-command"], "command: invalid choice: 'no-command'"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(command, words, message):
    status, out, err = command(*words)
    assert status == 2 and out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("segment . --stages --regions .", "--regions does not go with --stages"),
        ("segment . --stages --maps adjusted", "--maps does not go with --stages"),
        ("segment . --given-labels names --stages", "--stages does not go with --given-labels"),
        ("segment . --given-labels names --zarr", "--zarr does not go with --given-labels"),
        ("evaluate --prediction . --truth . --model x --patch 8", "--images and --patch go with --baselines"),
        ("evaluate --prediction . --truth . --model x --csv .", ".: a folder; expected a file to write, such as score"),
        ("phantom --kind patch --out x --tissue 0.5", "--tissue does not go with --kind patch"),
        ("phantom --kind slide --out x --name y", "--name does not go with --kind slide"),
        ("phantom --kind slide --out x --region 0.5", "--region goes with --outlines"),
        ("segment . --stages --precision bfloat16", "--precision does not go with --stages"),
        ("train --name x --images . --patches 9", "--patches does not go with --images"),
        ("tune-crf --model x --resize", "--resize does not go with phantoms; give --images"),
        ("tune-crf --model x --images . --truth . --count 9", "--count does not go with --images"),
        ("patches --images x --truth . --mpp 1 --size 8 --out o --label-set x", "--label-set goes with --model"),
        ("segment . --write maps", "--write goes with --given-labels"),
        ("patches --images . --truth x --mpp 1 --size 8 --out .", "--out .: patches would lie among what they are cut"),
        ("patches --images x --truth . --mpp 1 --size 8 --out .", "--out .: patches would lie among what they are cut"),
    ],
)
def test_what_would_be_ignored_or_mixed_up_is_said(command, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*words.split())
    assert status == 2 and out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_a_new_folder_is_for_commands_that_put_something_there():
    with pytest.raises(InputError, match="--root: no/where: no such folder"):
        build_parser().parse_args(["tune-crf", "--model", "x", "--root", "no/where"])
    assert str(build_parser().parse_args(["train", "--name", "x", "--root", "no/where"]).root) == "no/where"
