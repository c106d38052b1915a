"""What is compared by measure_cost.py: ways to set up a gateway, each by its name.

`defaults` is LiteLLM as it comes. Every other one has all features of the appliance's configuration and says what is
set differently: in the relay's configuration, in the gateway's environment or by a further hook. Those that did not
help stay here, so that they can be tried again with the next version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ALWAYS_JOINED = {"coalesce_seconds": 0.05, "coalesce_chunks_per_second": 0.0}
JOINED_WHEN_BUSY = {"coalesce_seconds": 0.05, "coalesce_chunks_per_second": 500.0}


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One way to set up a gateway."""

    name: str
    plain: bool = False
    relay: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    """Hooks of ours that are left out."""


VARIATIONS = {
    "defaults": Variation(name="LiteLLM's defaults", plain=True),
    "appliance": Variation(name="appliance", relay=JOINED_WHEN_BUSY),
    "long": Variation(name="appliance, every chunk LiteLLM's way", relay=JOINED_WHEN_BUSY, without=("plain_chunks",)),
    "apart": Variation(name="appliance, every piece of text alone"),
    "always": Variation(name="appliance, always joined over 50 ms", relay=ALWAYS_JOINED),
    "gc": Variation(name="every piece alone, GC threshold 50,000", environment={"PYTHON_GC_THRESHOLD": "50000,50,50"}),
    "optimized": Variation(name="every piece alone, python -O", environment={"PYTHONOPTIMIZE": "1"}),
    "malloc": Variation(name="every piece alone, malloc for small objects", environment={"PYTHONMALLOC": "malloc"}),
    "granian": Variation(name="every piece alone, granian instead of uvicorn", options=("--run_granian",)),
}
USUAL = ("defaults", "appliance", "apart")
