"""Answering: one request from its admission to its last byte, over as many legs as it takes."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

from relay.affinity import prefixes_of
from relay.asking import Asked
from relay.assemble import Collected
from relay.bodies import usage_of, with_ids
from relay.coalescing import Coalescing
from relay.config import Config
from relay.continuation import Continuation
from relay.events import encoded
from relay.failed import Failed
from relay.fault_log import log
from relay.figures import Figures
from relay.http_server import ClientConnection, error_body
from relay.ledger import Ledger
from relay.ledger import Leg as BookedLeg
from relay.leg import Leg, LegEnd
from relay.pace import Pace
from relay.patience import first_byte_seconds
from relay.replay import Replay
from relay.replica import Replica, Wish
from relay.replicas import Group, NoReplica
from relay.sending import Sender
from relay.thoughts import ThoughtEnd

PROGRESS_SECONDS = 1.0
_BOOKING: set[asyncio.Task[None]] = set()
OUTCOMES = {"finished": "completed", "refused": "refused", "busy": "busy", "fault": "fault"}
"""Of a leg, in the ledger's words."""


class Answering:
    """One request for generated text."""

    def __init__(
        self,
        asked: Asked,
        client: ClientConnection,
        *,
        identity: str,
        config: Config,
        group: Group,
        sender: Sender,
        ledger: Ledger,
        figures: Figures,
        pace: Pace,
    ) -> None:
        self._asked, self._client, self._identity = asked, client, identity
        self._config, self._group, self._sender = config, group, sender
        self._ledger, self._figures, self._pace = ledger, figures, pace
        self._collected = None if asked.stream else Collected()
        self._out = Coalescing(self._stream, pause=pace.seconds)
        write: Callable[[bytes], None] = self._out.write if self._collected is None else self._collected.write
        self._text: Continuation | Replay
        if asked.how == "continue":
            self._text = Continuation(
                asked,
                window=config.max_model_len,
                thought_end=ThoughtEnd(config.reasoning_end, special=config.reasoning_end_special),
                write=write,
                write_text=self._out.text if self._collected is None else None,
            )
        else:
            self._text = Replay(asked, write=write)
        self._whole = asked.whole
        self._wish = Wish(tokens=asked.tokens_guess, prefixes=prefixes_of(asked.body))
        self._begun = monotonic()
        self._legs: list[BookedLeg] = []
        self._tried: list[Replica] = []
        self._replica: Replica | None = None
        self._booked_at = self._fault_at = 0.0
        self._leg: Leg | None = None
        self._entry, self._ended, self._streams = "", False, False

    async def run(self) -> str:
        """Answers the client. Returns the outcome."""
        model = str(self._asked.body.get("model"))
        self._entry = self._ledger.begin(self._identity, model=model, endpoint=self._asked.path)
        outcome = "client_left"
        try:
            async with asyncio.timeout(self._config.request_seconds_max):
                end = await self._legs_until_done()
            outcome = "completed"
            if self._whole:
                await self._send_whole(end)
            else:
                await self._send_rest()
        except TimeoutError:
            outcome = "too_long"
            message = f"no whole answer within {self._config.request_seconds_max:g} s"
            await self._fail(Failed(504, message, "TimeoutError", outcome=outcome))
        except Failed as failed:
            outcome = failed.outcome
            await self._fail(failed)
        finally:
            self._out.close()
            self._pace.streams_count -= self._streams
            if self._leg is not None and (not self._leg.over.done() or self._leg.over.cancelled()):
                self._book_leg(self._leg.replica, outcome)
            if not self._ended:
                # The client has left, and this task is cancelled: the disk must not wait for it nor it for the disk.
                booking = asyncio.get_running_loop().create_task(self._book(outcome))
                _BOOKING.add(booking)
                booking.add_done_callback(_BOOKING.discard)
        return outcome

    async def _book(self, outcome: str) -> None:
        self._ended = True
        text = self._text
        self._figures.tokens["prompt"] += text.prompt_tokens
        self._figures.tokens["completion"] += text.completion_tokens
        await self._ledger.end(
            self._entry,
            prompt_tokens=text.prompt_tokens,
            completion_tokens=text.completion_tokens,
            cached_tokens=text.cached_tokens,
            legs=self._legs,
            outcome=outcome,
        )

    # legs
    async def _legs_until_done(self) -> LegEnd:
        while (wanted := self._text.next_request()) is not None:
            path, body, ids = wanted
            end, replica = await self._one_leg(path, body, ids)
            self._figures.legs[(replica.id, end.kind)] += 1
            self._book_leg(replica, OUTCOMES[end.kind])
            if end.kind == "finished":
                return end
            if end.kind == "refused" and not ids:
                raise Failed(end.status, "refused", "", outcome="refused", body=end.body)
            self._on_fault(end, replica)
        return LegEnd(kind="finished")

    def _book_leg(self, replica: Replica, outcome: str) -> None:
        """What one engine did: the tokens that it added to the answer, and the prompt if it read it."""
        done = self._text.completion_tokens - sum(leg.completion_tokens for leg in self._legs)
        read = self._text.prompt_tokens if done > 0 or outcome == "completed" else 0
        self._legs.append(
            BookedLeg(replica=replica.id, prompt_tokens=read, completion_tokens=max(done, 0), outcome=outcome)
        )

    async def _one_leg(self, path: str, body: dict[str, Any], ids: bytes) -> tuple[LegEnd, Replica]:
        urgent = self._client.head_sent
        read = self._text.prompt_tokens + self._text.completion_tokens
        patience = first_byte_seconds(self._asked, read_tokens=read, config=self._config)
        try:
            replica = await self._group.acquire(self._wish, tried=self._tried, urgent=urgent)
        except NoReplica as none:
            failed = Failed(503, str(none), "ServiceUnavailableError", outcome="no_replica")
            failed.headers["retry-after"] = str(none.retry_after_seconds)
            raise failed from None
        self._replica = replica
        leg = Leg(
            replica,
            sink=None if self._whole else self._feed,
            first_byte_seconds=patience,
            stall_seconds=self._config.stall_seconds,
        )
        self._leg = leg
        self._client.on_paused = leg.pause
        if self._whole:
            body = dict(self._asked.body)
        legs = self._text.legs
        identity = self._identity if legs == 1 else f"{self._identity}-leg{legs}"
        try:
            await self._sender.start(leg, "POST", path, with_ids(body, ids), identity=identity)
            if self._client.paused:
                leg.pause(True)
            end = await leg.over
        finally:
            self._client.on_paused = None
            self._group.release(replica, self._wish)
            if not leg.finished or self._text.stopped_here:
                leg.close()
        return end, replica

    def _on_fault(self, end: LegEnd, replica: Replica) -> None:
        """Decides whether another leg may follow. Raises Failed."""
        text, reason = self._text, end.reason or f"HTTP {end.status}"
        self._tried.append(replica)
        self._fault_at = monotonic()
        log(
            "fault",
            request=self._identity,
            replica=replica.id,
            reason=reason,
            leg=text.legs,
            delivered_tokens=text.completion_tokens,
            ejected=end.eject,
            suspected=end.suspect,
        )
        if text.refused:
            raise Failed(text.refused, reason, "BadRequestError", outcome="refused")
        if end.eject:
            self._group.eject(replica, reason, hung=end.hung)
        elif end.suspect:
            self._group.suspect(replica, reason)
        why, everybody = "", all(one in self._tried for one in self._group.serving)
        if end.kind == "busy" and everybody:
            why = "every engine is busy"
        elif end.suspect and everybody and text.legs > 1 and not text.completion_tokens:
            why = "every engine answers this request with an error"
        why = why or text.resumable or (f"{text.legs} engines failed" if text.legs >= self._config.max_legs else "")
        if not why:
            return
        if end.status and not text.completion_tokens:
            failed = Failed(end.status, reason, "", outcome="engines_failed", body=end.body)
            if end.status in {429, 503}:
                failed.headers["retry-after"] = "1"
            raise failed
        raise Failed(502, f"{why}; the last said: {reason}", "BadGatewayError", outcome="engines_failed")

    def _feed(self, event: bytes) -> str | None:
        """One event of the present leg; books progress now and then."""
        said = self._text.feed(event)
        now = asyncio.get_running_loop().time()
        if now - self._booked_at >= PROGRESS_SECONDS and self.book_progress():
            self._booked_at = now
        return said

    def book_progress(self) -> bool:
        """Tells the ledger how far this answer is, if it has begun: what is cut now is billed for so much."""
        text = self._text
        if self._replica is None or not text.prompt_tokens:
            return False
        prompt_tokens, completion_tokens = text.prompt_tokens, text.completion_tokens
        self._ledger.progress(
            self._entry, replica=self._replica.id, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
        )
        return True

    # to the client
    def _stream(self, data: bytes) -> None:
        client = self._client
        if not client.head_sent:
            self._figures.first_byte.add(monotonic() - self._begun)
            self._streams = True
            self._pace.streams_count += 1
            client.start_stream(x_request_id=self._identity, x_relay_replica=self._replica.id if self._replica else "")
        if self._fault_at:
            self._resumed()
        client.write(data)

    def _resumed(self) -> None:
        gap, self._fault_at = monotonic() - self._fault_at, 0.0
        self._figures.gap.add(gap)
        self._figures.resumed[self._asked.how] += 1
        log(
            "resumed",
            request=self._identity,
            replica=self._replica.id if self._replica else "",
            how=self._asked.how,
            leg=self._text.legs,
            gap_seconds=round(gap, 3),
        )

    async def _send_rest(self) -> None:
        last, usage = self._text.closing(), self._text.usage()
        await self._book("completed")
        if self._collected is None:
            self._out.write(last)
            self._client.end_stream()
            return
        self._collected.write(last)
        asked = self._asked
        whole = self._collected.whole(
            chat=asked.chat, show_ids=asked.show_ids, usage=usage, fingerprint=self._text.fingerprint
        )
        self._client.send_json(200, whole, **self._marks())

    async def _send_whole(self, end: LegEnd) -> None:
        usage = usage_of(end.body)
        self._text.prompt_tokens = usage.get("prompt_tokens") or 0
        self._text.completion_tokens = usage.get("completion_tokens") or 0
        self._text.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        if self._legs:
            read, done = self._text.prompt_tokens, self._text.completion_tokens
            self._legs[-1] = replace(self._legs[-1], prompt_tokens=read, completion_tokens=done)
        await self._book("completed")
        self._client.send(end.status, end.body, **self._marks())

    def _marks(self) -> dict[str, str]:
        marks = {"x_request_id": self._identity, "x_relay_replica": self._replica.id if self._replica else ""}
        if self._text.legs > 1:
            marks["x_relay_resumed"] = f"{self._asked.how}; legs={self._text.legs}"
        return marks

    async def _fail(self, failed: Failed) -> None:
        """One clear error: a status while nothing has gone out, else an event and a cut connection, never an end."""
        self._out.flush()
        await self._book(failed.outcome)
        if failed.outcome != "refused":
            log("failed", request=self._identity, reason=str(failed), status=failed.status, legs=self._text.legs)
        body = failed.body or error_body(failed.status, str(failed), failed.kind)
        if not self._client.head_sent:
            self._client.send(failed.status, body, **failed.headers)
            return
        self._client.write(
            encoded(json.loads(error_body(failed.status, str(failed), failed.kind or "BadGatewayError")))
        )
        self._client.end_stream()
