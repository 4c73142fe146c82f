"""Measured numbers stand once, in docs/results.toml, and in the documents as they stand there."""

import importlib.util
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("results_tables", REPOSITORY / "benchmarks" / "results_tables.py")
results_tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(results_tables)
RESULTS = results_tables.read_results()
FILES = sorted({result["file"] for result in RESULTS})


def numbers_in(value):
    """Return the numbers of a result's value, as they are written."""
    return [value["value"], *value["interval"]] if isinstance(value, dict) else [str(value)]


def test_names_are_given_once():
    names = [result["name"] for result in RESULTS]
    assert len({*names}) == len(names)


@pytest.mark.parametrize("file", FILES)
def test_documents_hold_what_was_measured(file):
    results = [result for result in RESULTS if result["file"] == file]
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert results_tables.filled(text, results) == text, "run python benchmarks/results_tables.py"
    words = " ".join(text.split())
    for result in results:
        if "text" in result:
            assert result["text"] in words, result["name"]
            quoted = re.findall(r"[\d,]*\d(?:\.\d+)?", result["text"])
            assert {n for value in result["values"].values() for n in numbers_in(value)} <= {*quoted}, result["name"]


@pytest.mark.parametrize(
    "file", ["README.md", "docs/measurements.md", "docs/phantoms.md", "docs/real_tissue.md", "docs/benchmarks.md"]
)
def test_no_table_of_measurements_stands_beside_the_file(file):
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    named = {result["name"] for result in RESULTS if result["file"] == file}
    marks = re.findall(r"<!-- results: (\S+) -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert {name for name, _ in marks} == named - {r["name"] for r in RESULTS if "text" in r}
    rest = re.sub(r"<!-- results:.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert re.findall(r"^\|.*\b0\.\d{3}\b.*", rest, re.MULTILINE) == []


def test_a_table_with_an_interval():
    result = {
        "name": "x",
        "header": ["", "mIoU"],
        "rows": [["a", {"value": "0.720", "interval": ["0.691", "0.75"]}], ["b", "0.50"]],
    }
    table = "| | mIoU |\n|---|---|\n| a | 0.720 [0.691, 0.75] |\n| b | 0.50 |"
    assert results_tables.table_of(result) == table
    text = "<!-- results: x -->\nold\n<!-- end -->\n"
    assert results_tables.filled(text, [result]) == text.replace("old", table)
    with pytest.raises(ValueError, match="no place for x"):
        results_tables.filled("", [{**result, "file": "README.md"}])
