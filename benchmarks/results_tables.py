"""Write the tables of measured numbers in the documents from docs/results.toml, which has all of them.

    python benchmarks/results_tables.py            # after docs/results.toml was changed
    python benchmarks/results_tables.py --check    # only say which documents differ

Each `[[result]]` has a name, the command, commit, seed, data and machine of the measurement ("not recorded" if nobody
wrote it down), and its metric. Its numbers are either `rows` below a `header`, for the table in `file` between
``<!-- results: NAME -->`` and ``<!-- end -->``; or `values`, each of which occurs in the sentence of `file` that is
quoted as `text`. A number with its 95 % interval is a TOML table: ``{ value = 0.722, interval = [0.691, 0.750] }``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FACTS = ("command", "commit", "seed", "data", "machine", "metric")


def read_results(root: Path = ROOT) -> list[dict[str, Any]]:
    """Return all results, with numbers as texts, such as ``0.540``; raise ValueError if one lacks a fact."""
    text = (root / "docs" / "results.toml").read_text(encoding="utf-8")
    results = tomllib.loads(text, parse_float=str)["result"]
    for result in results:
        missing = [key for key in ("name", "file", *FACTS) if not result.get(key)]
        if missing or ("rows" in result) == ("values" in result):
            raise ValueError(f"{result.get('name')}: lacks {', '.join(missing) or 'either rows or values'}")
    return results


def cell_of(value: str | int | Mapping[str, Any]) -> str:
    """Format a number, a text, or a number with its interval as a cell."""
    if not isinstance(value, Mapping):
        return str(value)
    return f"{value['value']} [{', '.join(value['interval'])}]"


def table_of(result: Mapping[str, Any]) -> str:
    """Format a result's table as Markdown; raise ValueError if a row has another length than the header."""
    rows = [result["header"], ["---"] * len(result["header"]), *([cell_of(v) for v in row] for row in result["rows"])]
    if any(len(row) != len(result["header"]) for row in rows):
        raise ValueError(f"{result['name']}: rows of another length than the header")
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines[1] = lines[1].replace(" ", "")
    return re.sub(r"\|  (?=\|)", "| ", "\n".join(lines))


def filled(text: str, results: list[dict[str, Any]]) -> str:
    """Return a document's text with its results' tables between their marks; raise ValueError if a mark is missing."""
    for result in results:
        begin, end = f"<!-- results: {result['name']} -->\n", "\n<!-- end -->"
        if "rows" in result:
            before, mark, after = text.partition(begin)
            _, stop, rest = after.partition(end)
            if not mark or not stop:
                raise ValueError(f"{result['file']}: no place for {result['name']}: {begin.strip()}")
            text = before + begin + table_of(result) + end + rest
    return text


def main() -> int:
    """Fill in all documents, or check them; return the exit status."""
    results, status = read_results(), 0
    for name in sorted({result["file"] for result in results}):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = filled(text, [result for result in results if result["file"] == name])
        if new != text:
            print(f"{name}: differs" if "--check" in sys.argv else name)
            status |= "--check" in sys.argv
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
