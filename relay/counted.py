"""Counted: requests that are passed on as they are (embeddings, responses, ...) and booked as the engine counted them.

Apart from answering, because nothing here goes on after a fault: any replica computes it anew, or the stream ends. The
bill is on the disk before the client has the answer, or the last event of it. Whose client leaves a stream, or loses
it, is billed the pieces of text that were passed on: each has a token at least, and the engine tells the sum at the end
only.
"""

import asyncio
from collections.abc import Sequence

from relay.bodies import used_in
from relay.config import Config
from relay.figures import Figures
from relay.http_server import ClientConnection, HttpRequest
from relay.ledger import Ledger, Leg
from relay.leg import LegEnd
from relay.passing import Heard, pass_on
from relay.replica import Replica
from relay.replicas import Group
from relay.sending import Sender

OUTCOMES = {"finished": "completed", "refused": "refused", "busy": "busy", "fault": "engines_failed"}
_BOOKING: set[asyncio.Task[bool]] = set()


async def pass_on_counted(
    request: HttpRequest,
    client: ClientConnection,
    *,
    identity: str,
    config: Config,
    group: Group,
    sender: Sender,
    ledger: Ledger,
    figures: Figures,
) -> str:
    """Answers one request. Returns the outcome."""
    entry = ledger.begin(identity, model=config.served_model_name, endpoint=request.path)
    outcome, is_booked, heard = "client_left", False, Heard()

    async def book(end: LegEnd | None, tried: Sequence[Replica]) -> None:
        nonlocal outcome, is_booked
        is_booked = True
        outcome = "no_replica" if end is None else OUTCOMES[end.kind]
        used = used_in(end.body or heard.last) if end is not None and end.kind == "finished" else (0, heard.pieces, 0)
        prompt_tokens, completion_tokens, cached_tokens = used
        figures.tokens["prompt"] += prompt_tokens
        figures.tokens["completion"] += completion_tokens
        legs = []
        for number, replica in enumerate(tried, start=1):
            is_last = number == len(tried)
            read, done = (prompt_tokens, completion_tokens) if is_last else (0, 0)
            how = outcome if is_last else "fault"
            legs.append(Leg(replica=replica.id, prompt_tokens=read, completion_tokens=done, outcome=how))
        await ledger.end(
            entry,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=cached_tokens,
            legs=legs,
            outcome=outcome,
        )

    try:
        await pass_on(
            request,
            client,
            identity=identity,
            config=config,
            group=group,
            sender=sender,
            heard=heard,
            before_answer=book,
        )
    finally:
        if not is_booked:
            # The client has left, and this task is cancelled: the disk must not wait for it nor it for the disk.
            figures.tokens["completion"] += heard.pieces
            booking = asyncio.get_running_loop().create_task(
                ledger.end(
                    entry,
                    prompt_tokens=0,
                    completion_tokens=heard.pieces,
                    cached_tokens=0,
                    legs=[],
                    outcome=outcome,
                )
            )
            _BOOKING.add(booking)
            booking.add_done_callback(_BOOKING.discard)
    return outcome
