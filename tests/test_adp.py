import ast
import re
from functools import cache
from pathlib import Path

import pytest

import hsn_v1
from hsn_v1.adp import ADP, CLASSIFIER_CODES, FUNC, GLAS, LABEL_SETS, MORPH
from hsn_v1.labels import lenders_first


def test_every_code_has_a_name():
    assert set(ADP.outputs) == set(CLASSIFIER_CODES) and all(ADP.outputs.values())
    for label_set in LABEL_SETS.values():
        assert set(label_set.names) == {*label_set.colours, *label_set.unlabelled}
    assert MORPH.describe("C.D.I") == "C.D.I dense irregular connective"
    assert MORPH.describe("Background") == "background"


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=LABEL_SETS)
def test_colours_tell_classes_apart(label_set):
    colours = [*label_set.colours.values(), *label_set.unlabelled.values()]
    assert len(set(colours)) == len(colours)


def test_31_level_3_classes_are_scored():
    assert len(MORPH.classified) == 28
    assert len(FUNC.classified) == 3
    assert [CLASSIFIER_CODES[i] for i in FUNC.outputs(FUNC.classified)] == ["G.O", "G.N", "T"]


def test_lenders_come_first_and_once():
    assert lenders_first([FUNC]) == [MORPH, FUNC]
    assert lenders_first([MORPH, FUNC]) == [MORPH, FUNC]
    assert lenders_first([GLAS]) == [GLAS]
    assert [MORPH.codes[i] for i in FUNC.borrowed_indices] == ["A.W", "A.B", "A.M"]


def test_parents_are_implied():
    assert [ADP.codes[i] for i in ADP.with_parents(["E.M.U", "T"])] == ["E", "E.M", "E.M.U", "T"]
    assert [ADP.codes[i] for i in ADP.with_parents(["E.T.X"])] == ["E", "E.T"]


PACKAGE = Path(hsn_v1.__file__).parent

#: What may know ADP: its files of classes, the phantoms, the check of the authors' download, and the defaults.
KNOWS_ADP = ("adp.toml", "adp_ijcv2020", "phantoms/", "sets/official.py", "commands/common.py")

#: What may also name its label sets: what knows GlaS, which is a data set, too, the authors' files and numbers, and a
#: phantom's.
NAMES_SETS = (*KNOWS_ADP, "commands/doctor.py", "sets/benchmarks.py", "sets/reproduce.py", "io/tree.py")

CODES = {*ADP.outputs, *ADP.vague}


@cache
def words_of(path: Path) -> list[str]:
    """Return what a file says: the strings of a module but for its docstrings, or all of another file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [text]
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and is_said(node)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [node.value for node in constants if isinstance(node.value, str)]


def is_said(node):
    return bool(node.body) and isinstance(node.body[0], ast.Expr)


def files_with(found, allowed):
    texts = (path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml", ".html", ".js", ".css"))
    files = {path.relative_to(PACKAGE).as_posix(): path for path in texts if "models" not in path.parts}
    return {name for name, path in files.items() if not name.startswith(allowed) and any(map(found, words_of(path)))}


@pytest.mark.slow
def test_no_other_module_knows_adp():
    """Codes of one letter are left out: NumPy's orders are called C and F."""

    def has_code(text):
        return bool(CODES & {*re.findall(r"\b[A-Z](?:\.[A-Z])+\b", text)})

    assert files_with(has_code, KNOWS_ADP) == set()
    assert {"adp.toml", "sets/official.py"} <= files_with(has_code, ())


def test_no_other_module_names_its_label_sets():
    assert files_with(LABEL_SETS.__contains__, NAMES_SETS) == set()
