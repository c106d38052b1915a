"""Driver: starts every request at its intended instant and reads all streams, in one thread.

One epoll holds every socket. The loop belongs to the caller: `run` blocks in the epoll itself, `run_in_gevent` waits
for the epoll's own descriptor in gevent's hub, so that Locust's heartbeats, web page and messages go on beside
thousands of streams without a greenlet per stream.
"""

import heapq
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns, process_time_ns
from typing import TYPE_CHECKING

from gevent.monkey import get_original

from benchmarks.endpoint import Endpoint, endpoint
from benchmarks.errors import BadLoad
from benchmarks.event_log import Tally
from benchmarks.load import Load, Patience
from benchmarks.record import OK, Record
from benchmarks.schedule import NANOSECONDS, Schedule
from benchmarks.stream import CONNECTING, SHAKING, Stream
from benchmarks.text_of_stream import answer_of
from benchmarks.workload import Call, Workload

if TYPE_CHECKING:
    from select import epoll as Epoll  # noqa: N812

LOOKAHEAD = 8
NEVER_NS = 1 << 62
PATROL_NS = 100_000_000
CPU_SAMPLE_NS = NANOSECONDS
SPARE_DESCRIPTORS = 256
IDLE_SECONDS = 0.1
GEVENT_READ = 1


@dataclass(kw_only=True)
class Effort:
    """What the run cost this process: one row per second, for the validity rules."""

    cpu_ratio: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    in_flight_peak: int = 0


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which arrivals this process makes: index, index + count, ..."""

    index: int = 0
    count: int = 1


class Driver:
    """Carries out one share of one load. Every finished request goes to `sink` as a Record."""

    def __init__(
        self, load: Load, schedule: Schedule, workload: Workload, sink: Callable[[Record], None], *, share: Share
    ) -> None:
        self._load, self._sink, self._workload = load, sink, workload
        self._endpoint: Endpoint = endpoint(load.target, api=load.workload.api)
        self._patience: Patience = load.patience
        self._offsets: list[int] = schedule.offsets_ns.tolist()  # plain integers: numpy's are slow one by one
        self._next, self._step = share.index, share.count
        self._prepared: dict[int, Call] = {}
        self._followups: list[tuple[int, int, Call]] = []
        self._streams: dict[int, Stream] = {}
        self._epoll: Epoll = get_original("select", "epoll")()  # gevent takes it out of `select`
        self._origin_ns = 0
        self._patrol_ns = self._sampled_ns = 0
        self._cpu_ns = 0
        self._tally = Tally()
        self._stopping = False
        self._keep_bodies = load.keep_bodies or load.workload.turns > 1
        self.effort = Effort()
        _allow_many_sockets()

    def begin(self, *, origin_ns: int | None = None) -> None:
        """Sets the instant that all offsets count from (monotonic ns); now if not given."""
        now = monotonic_ns()
        self._origin_ns = now if origin_ns is None else origin_ns
        self._patrol_ns = self._sampled_ns = max(now, self._origin_ns)
        self._cpu_ns = process_time_ns()
        self._prepare()

    @property
    def finished(self) -> bool:
        """Nothing is in flight and nothing is left to start."""
        return not self._streams and (self._stopping or (self._next >= len(self._offsets) and not self._followups))

    @property
    def descriptor(self) -> int:
        """Readable whenever a stream has something to say."""
        return self._epoll.fileno()

    @property
    def in_flight(self) -> int:
        """Streams open now."""
        return len(self._streams)

    def start_due(self) -> float:
        """Starts whatever is due; returns seconds until it wants to be called again."""
        now = monotonic_ns()
        while not self._stopping and (due := self._due_ns()) <= now:
            self._start(due)
            now = monotonic_ns()
        if now >= self._patrol_ns:
            self._patrol(now)
        if now >= self._sampled_ns + CPU_SAMPLE_NS:
            self._sample(now)
        if len(self._prepared) < LOOKAHEAD // 2 and not self._stopping:
            self._prepare()
        until = min(self._due_ns(), self._patrol_ns) - monotonic_ns()
        return max(0.0, min(until / NANOSECONDS, IDLE_SECONDS))

    def read_ready(self, timeout_seconds: float = 0.0) -> None:
        """Reads every stream that has something, waiting at most that long for the first."""
        streams = self._streams
        for descriptor, mask in self._epoll.poll(timeout_seconds):
            stream = streams[descriptor]
            wanted = stream.wants
            stream.on_ready(mask)
            if stream.outcome:
                self._leave(descriptor, stream)
            elif stream.wants != wanted:
                self._epoll.modify(descriptor, stream.wants)

    def stop(self) -> None:
        """Starts nothing more and gives up what is in flight."""
        self._stopping = True
        for descriptor, stream in list(self._streams.items()):
            stream.give_up("abandoned")
            self._leave(descriptor, stream)

    def run(self) -> None:
        """To the end, blocking."""
        while not self.finished:
            self.read_ready(self.start_due())

    def _due_ns(self) -> int:
        first = self._offsets[self._next] + self._origin_ns if self._next < len(self._offsets) else NEVER_NS
        return min(first, self._followups[0][0]) if self._followups else first

    def _start(self, due_ns: int) -> None:
        if self._followups and self._followups[0][0] == due_ns:
            call = heapq.heappop(self._followups)[2]
        else:
            call = self._prepared.pop(self._next) if self._next in self._prepared else self._workload.first(self._next)
            self._next += self._step
        stream = Stream(call, self._endpoint, intended_ns=due_ns, keep_body=self._keep_bodies, tally=self._tally)
        stream.open()
        if stream.outcome:
            self._finish(stream)
            return
        assert stream.socket is not None  # noqa: S101  open() either set it or an outcome
        descriptor = stream.socket.fileno()
        self._streams[descriptor] = stream
        self._epoll.register(descriptor, stream.wants)
        self.effort.in_flight_peak = max(self.effort.in_flight_peak, len(self._streams))

    def _prepare(self) -> None:
        for sequence in range(self._next, min(len(self._offsets), self._next + LOOKAHEAD * self._step), self._step):
            if sequence not in self._prepared:
                self._prepared[sequence] = self._workload.first(sequence)

    def _leave(self, descriptor: int, stream: Stream) -> None:
        """A stream is over. The epoll must forget it first: a process that is being started elsewhere in this one holds
        a copy of the socket for a moment, and closing ours would not take it out."""
        self._epoll.unregister(descriptor)
        del self._streams[descriptor]
        self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        stream.close()
        record = stream.record(origin_ns=self._origin_ns)
        if self._load.workload.turns > 1 and record.outcome == OK and not self._stopping:
            following = self._workload.following(stream.call, answer_of(record.body))
            if following is not None:
                think_ns = int(self._load.workload.think_seconds * NANOSECONDS)
                heapq.heappush(self._followups, (stream.ended_ns + think_ns, following.sequence, following))
        self._sink(record)

    def _patrol(self, now: int) -> None:
        """Ends streams whose client would have left."""
        self._patrol_ns = now + PATROL_NS
        patience = self._patience
        for descriptor, stream in list(self._streams.items()):
            silent = (now - stream.heard_ns) / NANOSECONDS
            if stream.stage in {CONNECTING, SHAKING}:
                outcome = "connect_timeout" if silent > patience.connect_seconds else ""
            elif (now - stream.intended_ns) / NANOSECONDS > patience.total_seconds:
                outcome = "endless"
            elif not stream.heard:
                outcome = "first_byte_timeout" if silent > patience.first_byte_seconds else ""
            else:
                outcome = "silent" if silent > patience.silence_seconds else ""
            if outcome:
                stream.give_up(outcome)
                self._leave(descriptor, stream)

    def _sample(self, now: int) -> None:
        used = process_time_ns()
        self.effort.cpu_ratio.append(round((used - self._cpu_ns) / (now - self._sampled_ns), 4))
        self.effort.in_flight.append(len(self._streams))
        self.effort.events.append(self._tally.events)
        self._cpu_ns, self._sampled_ns, self._tally.events = used, now, 0


def run_in_gevent(driver: Driver) -> None:
    """To the end, beside gevent's other greenlets: one greenlet reads, the calling one starts requests."""
    import gevent  # noqa: PLC0415  only Locust's processes need the hub

    hub = gevent.get_hub()

    def read() -> None:
        watcher = hub.loop.io(driver.descriptor, GEVENT_READ)
        while True:
            hub.wait(watcher)
            driver.read_ready()

    reader = gevent.spawn(read)
    try:
        while not driver.finished:
            gevent.sleep(driver.start_due())
    finally:
        reader.kill()


def _allow_many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < SPARE_DESCRIPTORS * 2:
        raise BadLoad(f"this process may open {hard} files only; raise `ulimit -n`")
