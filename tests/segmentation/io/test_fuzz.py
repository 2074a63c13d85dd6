"""A short series of `fuzzing`; ``make fuzz`` runs the long one."""

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def judge():
    judge = fuzzing.Judge()
    yield judge
    judge.reader.close()


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(number=st.integers(0, 2**32))
def test_mutated_files_are_refused_or_whole_and_nothing_crashes_or_hangs(judge, number):
    made, _, _, finding = judge.judge(number)
    assert not finding, f"{made.seed.name}, {made.what}: {finding}"


def test_a_process_that_dies_or_fails_is_seen(judge):
    reader = fuzzing.Reader()
    outcome, _ = reader.read("image", {"y": b""})
    assert outcome == "finding: KeyError: 'x'"
    reader.process.kill()
    outcome, _ = reader.read("image", {"x": b""})
    assert outcome.startswith("finding: the process ended with code -9")
    assert reader.read("image", {"x": b""})[0] == "refused"
    reader.close()
