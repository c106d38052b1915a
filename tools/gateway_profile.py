"""Gateway profile: where a gateway worker spends its time, for each token and each request, as a table and a picture.

    GATEWAY_COST_PROFILE=FOLDER PY_SPY=... python -m pytest -s tests/gateway/measure_cost.py
    python -m tools.gateway_profile FOLDER --svg docs/images/gateway-profile.svg

The folder holds `cost.json` (microseconds by process, counted by the kernel) and py-spy's stacks of the worker under
the same loads. A sample belongs to one part: that of the innermost frame that the table below knows, so that the parts
add up to the worker's whole time. Native code (pydantic's core, sockets, the kernel) counts for the Python frame that
called it.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.charts import ONE, SIDES, THREE, TWO, figure, standalone

EVENT_LOOP = "event loop, sockets, kernel"
STREAM = "LiteLLM: stream wrapper"
OBJECTS = "LiteLLM: chunk objects"
BOOKING = "LiteLLM: logging, cost, spend"
AUTH = "LiteLLM: keys, budgets, limits"
ROUTER = "LiteLLM: router"
PROXY = "LiteLLM: request and stream handling"
PARTS: tuple[tuple[str, str], ...] = (
    ("/token_window.py", "our hooks"),
    ("/chat_forms.py", "our hooks"),
    ("/prompt_ruler.py", "our hooks"),
    ("/identity_ledger.py", "our hooks"),
    ("/outage_budget.py", "our hooks"),
    ("/audit_lines.py", "our hooks"),
    ("/response_cache.py", "our hooks"),
    ("/budget_advice.py", "our hooks"),
    ("/data_fence.py", "our hooks"),
    ("/request_limit.py", "our hooks"),
    ("/quick_requests.py", "our hooks"),
    ("/plain_chunks.py", "our hooks"),
    ("/plain_text.py", "our hooks"),
    ("/lib/relay/", "our hooks"),
    ("/pydantic", "pydantic"),
    ("/openai/", "OpenAI's client: reading chunks"),
    ("/litellm_core_utils/streaming_handler.py", STREAM),
    ("/litellm_core_utils/streaming_chunk_builder", BOOKING),
    ("/litellm_core_utils/litellm_logging.py", BOOKING),
    ("/litellm_core_utils/logging", BOOKING),
    ("/litellm_core_utils/llm_cost_calc", BOOKING),
    ("/litellm/cost_calculator.py", BOOKING),
    ("/proxy/spend_tracking/", BOOKING),
    ("/proxy/db/", BOOKING),
    ("/proxy/hooks/proxy_track_cost", BOOKING),
    ("/litellm/types/", OBJECTS),
    ("/litellm_core_utils/core_helpers.py", OBJECTS),
    ("/litellm_core_utils/model_response_utils.py", OBJECTS),
    ("/proxy/auth/", AUTH),
    ("/proxy/hooks/", AUTH),
    ("/litellm/caching/", AUTH),
    ("/litellm/router", ROUTER),
    ("/litellm/proxy/", PROXY),
    ("/litellm/", "LiteLLM: call to the model"),
    ("/redis/", "Redis client"),
    ("/prisma/", "database client"),
    ("/tokenizers/", "our hooks"),
    ("/transformers/", "our hooks"),
    ("/starlette/", "HTTP server"),
    ("/fastapi/", "HTTP server"),
    ("/uvicorn/", "HTTP server"),
    ("/aiohttp/", "HTTP client"),
    ("/httpx", "HTTP client"),
    ("/httpcore", "HTTP client"),
    ("/json/", "JSON"),
    ("/orjson", "JSON"),
    ("/uvloop/", EVENT_LOOP),
    ("/asyncio/", EVENT_LOOP),
    ("/anyio/", EVENT_LOOP),
)
OTHER = "other"
# A thread that waits for work: py-spy, which does not stop the process, takes some of them for busy.
IDLE = ("/concurrent/futures/thread.py:81)", "Condition.wait (", "Queue.get (")
SHOWN_PARTS = 12


def stacks_of(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """(frames, outermost first; samples) of each line of py-spy's raw format."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            yield tuple(stack.split(";")), int(count)


def part_of(frames: Sequence[str]) -> str:
    """The part of the innermost frame that is known."""
    for frame in reversed(frames):
        for sign, part in PARTS:
            if sign in frame:
                return part
    return OTHER


def shares_of(text: str) -> dict[str, float]:
    """Each part's share of all samples."""
    samples: Counter[str] = Counter()
    for frames, count in stacks_of(text):
        if not any(sign in frames[-1] for sign in IDLE):
            samples[part_of(frames)] += count
    total = samples.total()
    return {part: count / total for part, count in samples.items()} if total else {}


def microseconds_of(folder: Path, what: str) -> dict[str, dict[str, float]]:
    """By arrangement: microseconds of the worker's parts and of the other processes, for each token or request."""
    content = json.loads((folder / "cost.json").read_text(encoding="utf-8"))["arrangements"]
    found: dict[str, dict[str, float]] = {}
    for label, arrangement in content.items():
        stacks = folder / f"{label}-{what}.txt"
        if not stacks.exists():
            continue
        cost, shares = arrangement[what], shares_of(stacks.read_text(encoding="utf-8"))
        parts = {part: share * cost["worker"] for part, share in shares.items()}
        parts |= {f"process: {part}": value for part, value in cost.items() if part not in {"worker", "all"}}
        found[arrangement["name"]] = parts
    return found


def ordered(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The parts, dearest first by their dearest arrangement; those beyond the shown ones are joined by the caller."""
    names = {part for parts in found.values() for part in parts}
    return sorted(names, key=lambda part: -max(parts.get(part, 0.0) for parts in found.values()))


def table(found: Mapping[str, Mapping[str, float]], *, unit: str) -> str:
    """Markdown."""
    lines = [f"| {unit} | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    lines += [
        f"| {part} | " + " | ".join(f"{parts.get(part, 0.0):,.0f}" for parts in found.values()) + " |"
        for part in ordered(found)
    ]
    totals = " | ".join(f"{sum(parts.values()):,.0f}" for parts in found.values())
    return "\n".join([*lines, f"| together | {totals} |"])


def picture(by_token: Mapping[str, Mapping[str, float]], by_request: Mapping[str, Mapping[str, float]]) -> str:
    """Groups of bars: microseconds a token and, where they were measured, a request, by part and arrangement."""
    groups = [(found, unit) for found, unit in ((by_token, "µs a token"), (by_request, "µs a request")) if found]
    with figure("gateway-profile", height=4.1 * len(groups)) as (drawn, result):
        for axes, (found, unit) in zip(drawn.subplots(len(groups), 1, squeeze=False)[:, 0], groups, strict=True):
            parts = ordered(found)[:SHOWN_PARTS]
            width = 0.8 / len(found)
            for number, (name, costs) in enumerate(found.items()):
                places = [row + (number - (len(found) - 1) / 2) * width for row in range(len(parts))]
                label = f"{name}: {sum(costs.values()):,.0f}"
                colour = (ONE, TWO, THREE)[number % len(SIDES)]
                axes.barh(places, [costs.get(part, 0.0) for part in parts], height=width, color=colour, label=label)
            axes.set_yticks(range(len(parts)), parts, fontsize=7)
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(unit)
            axes.legend(loc="lower right", fontsize=7)
    return standalone(result[0])


def main() -> None:
    """Prints both tables and writes the picture."""
    parser = argparse.ArgumentParser(description="Where a gateway worker spends its time.")
    parser.add_argument("folder", type=Path, help="what GATEWAY_COST_PROFILE named")
    parser.add_argument("--svg", type=Path, help="where the picture is written")
    wanted = parser.parse_args()
    by_token, by_request = (microseconds_of(wanted.folder, what) for what in ("chunk", "request"))
    for found, unit in ((by_token, "µs a token"), (by_request, "µs a request")):
        if found:
            print(table(found, unit=unit), end="\n\n")
    if wanted.svg:
        wanted.svg.parent.mkdir(parents=True, exist_ok=True)
        wanted.svg.write_text(picture(by_token, by_request), encoding="utf-8")


if __name__ == "__main__":
    main()
