"""Budget: whether a key that has spent its budget is refused. A throwaway key gets the price of a few chats, and chats
are sent until it is refused.
"""

from collections.abc import Callable

from benchmarks.accept.calls import Call
from benchmarks.accept.keys import Keys
from sizing.documents import Part
from sizing.plan import PlannedModel

CHATS_IN_BUDGET = 2.5
CHATS_AT_MOST = 8
Chat = Callable[[str], Call]
"""Sends one chat with the key that is given and notes it."""


class BudgetSeen(Part):
    """One key with a small budget, and its chats in order."""

    model: str
    budget: float
    price_of_one: float
    calls: tuple[Call, ...]


def price_of(call: Call, model: PlannedModel) -> float:
    """What a call costs by the plan."""
    return (call.prompt_tokens or 0) * model.input_cost_per_token + (
        call.completion_tokens or 0
    ) * model.output_cost_per_token


def spend_a_budget(chat: Chat, keys: Keys, *, model: PlannedModel, secret: str, alias: str) -> BudgetSeen | None:
    """None where the model costs nothing, or where not even one chat was answered."""
    first = chat(secret)
    price = price_of(first, model)
    if not first.answered or not price:
        return None
    budget = CHATS_IN_BUDGET * price
    key = keys.make(alias, models=(model.name,), budget=budget)
    calls = tuple(chat(key.secret) for _ in range(CHATS_AT_MOST))
    return BudgetSeen(model=model.name, budget=budget, price_of_one=price, calls=calls)
