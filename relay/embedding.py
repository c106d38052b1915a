"""Embedding: a request for vectors. It is passed on whole, tried elsewhere when an engine fails, and booked.

Apart from answering, because there is no stream to go on with: a vector comes at once or not at all, and any replica
computes it anew. The bill is what the engine says it read; it is on the disk before the client has the vector.
"""

import asyncio
from collections.abc import Sequence

from relay.bodies import usage_of
from relay.config import Config
from relay.figures import Figures
from relay.http_server import ClientConnection, HttpRequest
from relay.ledger import Ledger, Leg
from relay.leg import LegEnd
from relay.passing import pass_on
from relay.replica import Replica
from relay.replicas import Group
from relay.sending import Sender

PATHS = frozenset({"/v1/embeddings"})
OUTCOMES = {"finished": "completed", "refused": "refused", "busy": "busy", "fault": "engines_failed"}
_BOOKING: set[asyncio.Task[bool]] = set()


async def embed(
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
    outcome, is_booked = "client_left", False

    async def book(end: LegEnd | None, tried: Sequence[Replica]) -> None:
        nonlocal outcome, is_booked
        is_booked = True
        outcome = "no_replica" if end is None else OUTCOMES[end.kind]
        usage = usage_of(end.body) if end is not None and end.kind == "finished" else {}
        prompt_tokens = int(usage.get("prompt_tokens") or 0)
        figures.tokens["prompt"] += prompt_tokens
        legs = [
            Leg(
                replica=replica.id,
                prompt_tokens=prompt_tokens if number == len(tried) and outcome == "completed" else 0,
                completion_tokens=0,
                outcome=outcome if number == len(tried) else "fault",
            )
            for number, replica in enumerate(tried, start=1)
        ]
        await ledger.end(
            entry, prompt_tokens=prompt_tokens, completion_tokens=0, cached_tokens=0, legs=legs, outcome=outcome
        )

    try:
        await pass_on(request, client, identity=identity, config=config, group=group, sender=sender, before_answer=book)
    finally:
        if not is_booked:
            # The client has left, and this task is cancelled: the disk must not wait for it nor it for the disk.
            booking = asyncio.get_running_loop().create_task(
                ledger.end(entry, prompt_tokens=0, completion_tokens=0, cached_tokens=0, legs=[], outcome=outcome)
            )
            _BOOKING.add(booking)
            booking.add_done_callback(_BOOKING.discard)
    return outcome
