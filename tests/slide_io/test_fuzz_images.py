"""The short form of `fuzz_images`: changed slides and images are read, or refused in one line."""

import pytest
from fuzz_images import KINDS, outcome_of, outcome_of_changed


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_read_or_refused_in_one_line(tmp_path, kind):
    KINDS[kind](tmp_path / kind)
    whole = (tmp_path / kind).read_bytes()
    assert outcome_of(tmp_path / kind) == "read"
    outcomes = [outcome_of_changed(tmp_path / kind, whole, seed) for seed in range(5)]
    assert all(outcome.startswith(("read", "refused")) for outcome in outcomes)
