"""Trace: recorded requests as a load - read, refused in one line, simulated as they came."""

from pathlib import Path

import pytest

from sizing.arrivals import TraceSource
from sizing.demand import Demand, Objectives
from sizing.errors import DocumentError
from sizing.trace import read_trace
from tests.command_line import llm_size

HEADING = "seconds,prompt_tokens,output_tokens\n"


def _written(path: Path, text: str) -> Path:
    file = path / "trace"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADING}12.5,100,20\n10.5,300,40\n",
        "id,output_tokens,prompt_tokens,seconds\nx,20,100,12.5\ny,40,300,10.5\n",
        '{"seconds": 12.5, "prompt_tokens": 100, "output_tokens": 20}\n\n'
        '{"seconds": 10.5, "prompt_tokens": 300, "output_tokens": 40}\n',
    ],
)
def test_requests_are_read_in_the_order_of_their_times_from_the_first_on(tmp_path: Path, text: str) -> None:
    assert ((0.0, 300, 40), (2.0, 100, 20)) == read_trace(_written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column seconds, prompt_tokens, output_tokens"),
        ("seconds,prompt_tokens\n1,2\n", "has no column output_tokens"),
        (HEADING, "holds 0 requests"),
        (f"{HEADING}1,2,3\n", "holds 1 requests"),
        (f"{HEADING}1,2,3\n1,2,3\n", "at the same moment"),
        (f"{HEADING}1,2,3\nsoon,2,3\n", ":3: seconds is 'soon'"),
        (f"{HEADING}1,2,3\nnan,2,3\n", ":3: seconds is 'nan'"),
        (f"{HEADING}1,2,3\n2,0,3\n", ":3: prompt_tokens is 0"),
        (f"{HEADING}1,2,3\n2,7,-3\n", ":3: output_tokens is -3"),
        (f"{HEADING}1,2,3\n2,7\n", ":3: output_tokens is None"),
        ('{"seconds": 1, "prompt_tokens": 2, "output_tokens": true}\n', ":1: output_tokens is True"),
        ('{"seconds": 1\n', ":1: is not JSON"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line_that_names_the_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said) as refused:
        read_trace(_written(tmp_path, text))

    assert "\n" not in str(refused.value)


def test_a_demand_of_a_trace_has_its_rate_and_its_lengths() -> None:
    demand = Demand.of_trace(
        ((0.0, 100, 10), (5.0, 300, 30), (10.0, 200, 20)), prefix_hit_ratio=0.0, objectives=Objectives()
    )

    assert (0.3, 200, 20) == (demand.rate_per_second, demand.prompt.mean_tokens, demand.output.mean_tokens)
    assert 512 == demand.window_tokens(256)
    assert isinstance(demand.source(), TraceSource)


def test_two_engines_take_turns_and_twice_the_load_comes_twice_as_fast() -> None:
    demand = Demand.of_trace(
        ((0.0, 1, 1), (1.0, 2, 2), (2.0, 3, 3), (3.0, 4, 4)), prefix_hit_ratio=0.0, objectives=Objectives()
    )

    assert ((0.0, 1, 1), (2.0, 3, 3)) == demand.share(2).trace
    assert ((0.0, 1, 1), (0.5, 2, 2), (1.0, 3, 3), (1.5, 4, 4)) == demand.times(2).trace


ON_ONE_CARD = ("recommend", "--model", "Qwen/Qwen3-8B", "--gpu", "H100-SXM:1")


def test_a_trace_is_answered_with_what_its_requests_would_have_seen(tmp_path: Path) -> None:
    rows = "".join(f"{number / 4},{400 + number % 7 * 50},{60 + number % 5}\n" for number in range(80))
    trace = _written(tmp_path, HEADING + rows)

    done = llm_size(*ON_ONE_CARD, "--trace", str(trace), "--ttft-ms", "1000", "--tpot-ms", "50")

    assert 0 == done.returncode, done.stderr
    assert "80 recorded requests in 20 s" in done.stdout


def test_a_trace_and_a_rate_contradict_each_other(tmp_path: Path) -> None:
    trace = _written(tmp_path, f"{HEADING}0,100,10\n1,100,10\n")

    done = llm_size(*ON_ONE_CARD, "--trace", str(trace), "--rate", "3")

    assert 2 == done.returncode
    assert "leave out --rate" in done.stderr


def test_a_request_beyond_the_window_is_refused(tmp_path: Path) -> None:
    trace = _written(tmp_path, f"{HEADING}0,100,10\n1,9000,10\n")

    done = llm_size(*ON_ONE_CARD, "--trace", str(trace), "--context", "4096")

    assert 2 == done.returncode
    assert "9010 tokens" in done.stderr
