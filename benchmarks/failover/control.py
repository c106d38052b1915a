"""Control: what each answer must be: computed for the fault engine, measured undisturbed and at equal load for others.

Greedy answers of a real engine may depend on what else is in its batch. Two undisturbed runs tell which texts are
stable on this engine at this load; only those are held against, and how many are not is said.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.check_history import Reference, reference_of
from benchmarks.fault_engine.asked import asked_of
from benchmarks.fault_engine.sequence import Sequence
from benchmarks.load import Load
from benchmarks.running import Runner
from benchmarks.schedule import schedule
from benchmarks.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Control:
    """The texts to expect."""

    texts: Reference
    unstable: int = 0
    how: str


def computed(load: Load, *, character: Mapping[str, Any]) -> Control:
    """The fault engine's answers to this load, without asking any."""
    plan = schedule(load.arrivals, seed=load.seed)
    workload = Workload(load, run_id="computed", schedule=plan)
    texts = {}
    for number in range(len(plan.offsets_ns)):
        asked = asked_of(
            json.loads(workload.first(number).body),
            chat=load.workload.api == "chat",
            served=load.target.model,
            max_model_len=int(character.get("max_model_len", 1 << 30)),
            reasoning=False,
        )
        eos_every, weights = int(character.get("eos_every", 0)), int(character.get("weights", 0))
        sequence = Sequence(asked, index=0, weights=weights, eos_every=eos_every, reasoning_every=0, nonce=0)
        sequence.step(asked.max_tokens)
        texts[(number, 0)] = sequence.text
    return Control(texts=texts, how="computed from the prompts")


def measured(run: Runner, load: Load) -> Control:
    """What two undisturbed runs of this load agree on."""
    first, second = (
        reference_of(run(load.model_copy(update={"name": f"{load.name}-control-{number}", "keep_bodies": True})))
        for number in (1, 2)
    )
    texts = {key: text for key, text in first.items() if second.get(key) == text}
    unstable = len(first) - len(texts)
    return Control(texts=texts, unstable=unstable, how="two undisturbed runs at equal load")
