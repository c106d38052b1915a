"""A site that exists only as arithmetic: FIFO queue, a number of slots, fixed times. Hours of load in milliseconds of
test.
"""

import heapq
from collections.abc import Callable

from benchmarks.driver import Effort
from benchmarks.history import History
from benchmarks.load import Load
from benchmarks.record import Record
from benchmarks.running import Runner
from benchmarks.schedule import schedule
from tests.fakes import forged_history

MILLISECOND = 1_000_000
Spoil = Callable[[Record], Record]


def simulated_site(
    *,
    slots: int = 4,
    ttft_ms: int = 20,
    itl_ms: int = 10,
    tokens: int = 8,
    grows_ms_per_second: float = 0.0,
    spoil: Spoil = lambda record: record,
    effort: Effort | None = None,
) -> Runner:
    """A runner whose server serves at most slots / (ttft + tokens * itl) requests per second."""

    def run(load: Load) -> History:
        free = [0] * slots
        records = []
        for number, intended in enumerate(schedule(load.arrivals, seed=load.seed).offsets_ns.tolist()):
            begin = max(intended, heapq.heappop(free))
            waited_ms = (begin - intended) // MILLISECOND
            first = waited_ms + ttft_ms + int(grows_ms_per_second * intended / 1e9)
            instants = [first + itl_ms * index for index in range(tokens)]
            record = forged_history.record(
                number,
                said=forged_history.tokens(f"run-{number}-0", tokens),
                times_ms=[*instants, instants[-1], instants[-1]],
                keep=load.keep_bodies,
                at_ns=intended,
            )
            heapq.heappush(free, record.ended_ns)
            records.append(spoil(record))
        made = forged_history.history(*records, efforts=[effort or Effort()])
        return forged_history.of_load(made, load)

    return run
