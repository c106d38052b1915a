"""Load: everything that defines one measured run, as one frozen document. The same file with the same seed is the
same load.

Separate from the code that carries it out, because histories and reports embed it word for word.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Document, Part

Language = Literal["en", "ko", "mixed"]


class Arrivals(Part):
    """When requests are meant to start. The server's speed has no say in it."""

    kind: Literal["poisson", "constant", "ramp", "trace"] = "poisson"
    rate_per_second: float = Field(default=1.0, gt=0, description="mean rate; of a ramp, the rate at its end")
    ramp_from_per_second: float = Field(default=0.0, ge=0)
    duration_seconds: float = Field(default=60.0, gt=0, description="of a trace: what lies beyond it is left out")
    trace: Path | None = Field(
        default=None, description="JSON lines: timestamp (ms), and optionally input_length, output_length (tokens)"
    )

    @model_validator(mode="after")
    def _trace_has_a_file(self) -> Self:
        if (self.kind == "trace") != (self.trace is not None):
            raise ValueError("arrivals of kind trace need `trace: FILE`, and only they")
        return self


class Lengths(Part):
    """Log-normal lengths: requests are many short and few long. A spread of 0 makes every length the mean."""

    mean_tokens: int = Field(gt=0)
    spread_ratio: float = Field(default=0.0, ge=0, description="standard deviation as a share of the mean")
    maximum_tokens: int | None = Field(default=None, gt=0)


class Workload(Part):
    """What requests say."""

    api: Literal["chat", "completions"] = "chat"
    language: Language = "en"
    prompt: Lengths = Lengths(mean_tokens=128, spread_ratio=0.3)
    output: Lengths = Lengths(mean_tokens=64, spread_ratio=0.3)
    shared_prefix_ratio: float = Field(
        default=0.0, ge=0, lt=1, description="leading share of each prompt that is the same in all; 0 defeats the cache"
    )
    turns: int = Field(default=1, ge=1, description="questions per conversation; each carries the whole history")
    think_seconds: float = Field(default=1.0, ge=0, description="between an answer's end and the next question")
    ignore_eos: bool = Field(default=False, description="always generate the whole length: for capacity only")
    unstreamed_ratio: float = Field(default=0.0, ge=0, le=1, description="share of requests that want one whole answer")
    temperature: float = Field(default=0.0, ge=0)
    tokenizer: Path | None = Field(
        default=None, description="tokenizer.json of the model: lengths in its own tokens instead of an estimate"
    )


class Patience(Part):
    """How long a client waits before it counts a failure."""

    connect_seconds: float = Field(default=10.0, gt=0)
    first_byte_seconds: float = Field(default=120.0, gt=0)
    silence_seconds: float = Field(default=30.0, gt=0, description="between two pieces of one stream")
    total_seconds: float = Field(default=600.0, gt=0, description="a stream that has not ended by then never will")


class Target(Part):
    """Where requests go. The key itself is never in a document: only the name of the variable that holds it."""

    base_url: str = Field(pattern=r"^https?://", description="as OpenAI's clients take it, ending in /v1")
    model: str
    key_variable: str = Field(default="LLM_API_KEY", description="environment variable with the API key")
    ca_file: Path | None = Field(default=None, description="certificate authority, if not one of the system's")


class Load(Document):
    """One run."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    target: Target
    arrivals: Arrivals = Arrivals()
    workload: Workload = Workload()
    patience: Patience = Patience()
    seed: int = Field(default=1, ge=0)
    nonce: str | None = Field(
        default=None, description="fixed, it makes the prompts of two runs equal, so that their answers can be compared"
    )
    keep_bodies: bool = Field(default=False, description="keep each stream's bytes, so that its text can be checked")
