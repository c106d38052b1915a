"""Arrivals are a pure function of the load."""

import json
from pathlib import Path

import numpy
import pytest

from benchmarks.errors import BadLoad
from benchmarks.load import Arrivals
from benchmarks.schedule import schedule


def test_constant_arrivals_are_evenly_spaced_from_zero() -> None:
    arrivals = Arrivals(kind="constant", rate_per_second=4, duration_seconds=1)

    offsets = schedule(arrivals, seed=1).offsets_ns

    assert [0, 250_000_000, 500_000_000, 750_000_000] == offsets.tolist()


def test_poisson_arrivals_have_the_asked_rate_and_exponential_gaps() -> None:
    arrivals = Arrivals(kind="poisson", rate_per_second=100, duration_seconds=100)

    offsets = schedule(arrivals, seed=7).offsets_ns
    gaps = numpy.diff(offsets) / 1e9

    assert 9_700 < len(offsets) < 10_300
    assert 0.0097 < gaps.mean() < 0.0103
    assert 0.0095 < gaps.std() < 0.0105  # an exponential's deviation is its mean


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    arrivals = Arrivals(rate_per_second=50, duration_seconds=2)

    first, again, other = (schedule(arrivals, seed=seed).offsets_ns.tolist() for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_a_ramp_from_zero_makes_three_quarters_of_its_arrivals_in_its_second_half() -> None:
    arrivals = Arrivals(kind="ramp", ramp_from_per_second=0, rate_per_second=200, duration_seconds=100)

    seconds = schedule(arrivals, seed=5).offsets_ns / 1e9

    assert 9_700 < len(seconds) < 10_300
    assert 0.73 < (seconds > 50).mean() < 0.77
    assert (numpy.diff(seconds) >= 0).all()


def test_a_trace_is_replayed_from_its_first_line_with_its_lengths(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 5000, "input_length": 30, "output_length": 3},
        {"timestamp": 2000, "input_length": 10, "output_length": 1},
        {"timestamp": 99000, "input_length": 40, "output_length": 4},
    ]
    trace.write_text("\n".join(map(json.dumps, rows)))

    found = schedule(Arrivals(kind="trace", trace=trace, duration_seconds=60), seed=1)

    assert [0, 3_000_000_000] == found.offsets_ns.tolist()
    assert found.prompt_tokens is not None
    assert found.output_tokens is not None
    assert [10, 30] == found.prompt_tokens.tolist()
    assert [1, 3] == found.output_tokens.tolist()


@pytest.mark.parametrize("line", ["not json", '{"when": 3}', '{"timestamp": "soon"}'])
def test_a_broken_trace_is_refused_with_file_and_line(tmp_path: Path, line: str) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 1}\n' + line)

    with pytest.raises(BadLoad, match=r"trace\.jsonl: line 2"):
        schedule(Arrivals(kind="trace", trace=trace), seed=1)


def test_more_requests_than_anyone_means_are_refused() -> None:
    with pytest.raises(BadLoad, match="shorten the run"):
        schedule(Arrivals(rate_per_second=1e6, duration_seconds=3600), seed=1)
