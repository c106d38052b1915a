"""How long the first byte of an engine may take."""

from pathlib import Path
from typing import Any

import pytest

from relay.asking import asked_of
from relay.config import Config, ReplicaConfig
from relay.patience import first_byte_seconds

CONFIG = Config(
    group="g",
    served_model_name="m",
    port=0,
    replicas=(ReplicaConfig(id="a", api_base="http://127.0.0.1:1/v1"),),
    max_model_len=1000,
    first_byte_seconds=8.0,
    ledger_directory=Path("/nowhere"),
)


@pytest.mark.parametrize(
    ("body", "read_tokens", "seconds"),
    [
        ({"prompt": "x" * 4000, "stream": True}, 0, 10.0),  # some 1,000 tokens at 500 a second
        ({"prompt": "x" * 4000, "stream": True}, 2500, 13.0),  # so many are known to be read
        ({"prompt": "x", "n": 2, "max_tokens": 50}, 0, 18.0),  # two answers of 50 at 10 a second, at once
        ({"prompt": "x", "n": 2}, 0, 11.2),  # vLLM completes 16 tokens where nobody says how many
        ({"prompt": "x", "n": "2", "max_tokens": "50"}, 0, 18.0),  # engines read these as numbers
        ({"prompt": "x", "n": 2, "max_tokens": -1_000_000}, 0, 208.0),  # the engine refuses these; none is to blame
        ({"prompt": "x", "n": -1_000_000, "max_tokens": 50}, 0, 13.0),
        ({"prompt": "x", "n": "two", "max_tokens": 50}, 0, 13.0),
        ({"prompt": "x", "n": 10**400, "max_tokens": 50}, 0, 10737418243.0),  # as many as an engine can count
    ],
)
def test_a_first_byte_may_take_what_has_to_be_done_before_it(
    body: dict[str, Any], read_tokens: int, seconds: float
) -> None:
    asked = asked_of(body, chat=False)

    assert seconds == first_byte_seconds(asked, read_tokens=read_tokens, config=CONFIG)
