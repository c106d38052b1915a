"""A process that writes a ledger as fast as it can and says on stdout what `end` has acknowledged, until killed.

Usage: python -m tests.relay.write_ledger DIRECTORY CONCURRENCY SEGMENT_BYTES [COUNT]
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from relay.ledger import Ledger, Leg


async def serve(ledger: Ledger, worker: int, count: int | None) -> None:
    number = 0
    while count is None or number < count:
        request, number = f"{os.getpid()}-{worker}-{number}", number + 1
        ledger.begin(request, model="qwen", endpoint="/v1/chat/completions")
        ledger.progress(request, replica="r1", prompt_tokens=11, completion_tokens=1)
        leg = Leg(replica="r1", prompt_tokens=11, completion_tokens=number, outcome="completed")
        kept = await ledger.end(
            request, prompt_tokens=11, completion_tokens=number, cached_tokens=0, legs=[leg], outcome="completed"
        )
        assert kept
        os.write(1, f"{request} {number}\n".encode())


async def main() -> None:
    directory, concurrency, segment_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    count = int(sys.argv[4]) if len(sys.argv) > 4 else None
    ledger = Ledger.open(directory, group="chat", segment_bytes=segment_bytes)
    started = time.perf_counter()
    await asyncio.gather(*(serve(ledger, worker, count) for worker in range(concurrency)))
    if count is not None:
        seconds, cpu = time.perf_counter() - started, time.process_time()
        ends = concurrency * count
        commits = ledger.counters.commits
        print(f"{ends / seconds:.0f} ends/s, {ends / commits:.1f} ends a commit, {cpu / ends * 1e6:.0f} us CPU an end",
              file=sys.stderr)  # fmt: skip
    ledger.close()


if __name__ == "__main__":
    asyncio.run(main())
