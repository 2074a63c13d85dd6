"""Every benchmark runs: once, on tiny inputs."""

import json
import sys

import pytest

from benchmarks import chain, eigenvectors, hierarchy, kmeans, labels, memory, ncut, pictures, reference_cases
from benchmarks.measure import cpu_seconds_of, interleaved, markdown


@pytest.mark.parametrize(
    "benchmark",
    [chain, eigenvectors, hierarchy, kmeans, labels, memory, ncut, pictures, reference_cases],
    ids=lambda module: module.__name__,
)
def test_it_runs_and_its_rows_make_a_table(benchmark):
    rows = benchmark.run(quick=True)
    json.dumps(rows, allow_nan=False)
    assert markdown(rows).count("\n") == len(rows) + 1


def test_objectives_of_ours_are_no_worse_than_those_of_the_libraries():
    for row in (rows := reference_cases.run(quick=True)):
        ours = next(r["value"] for r in rows if r["case"] == row["case"] and r["program"] == "regionflow")
        assert ours <= row["value"] * 1.02, row["case"]


def test_a_program_that_fails_is_not_measured():
    with pytest.raises(RuntimeError, match=r"ended with code 3:\nnothing done$"):
        cpu_seconds_of([sys.executable, "-c", "import sys; sys.stderr.write('nothing done'); sys.exit(3)"])
    assert cpu_seconds_of([sys.executable, "-c", "sum(range(10**6))"])[1] > 0


def test_candidates_take_turns():
    calls = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
