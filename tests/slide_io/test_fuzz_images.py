"""The short form of `fuzz_images`: changed slides and images are read, or refused in one line."""

import pytest
from fuzz_images import KINDS, change, outcome_of


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_read_or_refused_in_one_line(tmp_path, kind):
    path, outcomes = tmp_path / kind, []
    KINDS[kind](path)
    whole = path.read_bytes()
    assert outcome_of(path) == "read"
    for seed in range(5):
        path.write_bytes(whole)
        change(path, seed)
        outcomes.append(outcome_of(path))
    assert all(outcome.startswith(("read", "refused")) for outcome in outcomes)
