from types import SimpleNamespace

import pytest

from hsn_v1.adp import FUNC, MORPH
from hsn_v1.errors import InputError
from hsn_v1.slides import results


def test_results_are_written_side_by_side_and_all_stop_where_one_fails(monkeypatch):
    def write(*writes, threads=2):
        calls, by_name = [], dict(zip(("morph", "func"), writes, strict=True))
        monkeypatch.setattr(results, "_write_label_set", lambda *passed: by_name[passed[4].name](passed[5]))
        method = SimpleNamespace(label_sets=(MORPH, FUNC))
        task = SimpleNamespace(method=method, workers=threads, progress=lambda *call: calls.append(call))
        results.write_results(SimpleNamespace(size=lambda mpp: (5, 5)), task, SimpleNamespace(mpp=1), None)
        return calls

    def four(step):
        step(4)

    def on_and_on(step):
        while True:
            step(1)

    def fail(step):
        raise InputError("no room")

    assert sorted(write(four, four)) == [("rows", 4, 20), ("rows", 8, 20)] == write(four, four, threads=1)
    for writes in ((fail, on_and_on), (on_and_on, fail)):
        with pytest.raises(InputError, match="no room"):
            write(*writes)
