"""The gateway's hook that spares LiteLLM most of its work on plain pieces of streamed text.

Nearly all lines of a stream differ in their text alone: what stands before and behind it is the same, byte for byte, as
in the line before. LiteLLM builds, copies and checks six objects of each nevertheless, which is most of what a chunk
costs a gateway. So a line of each kind goes through LiteLLM whole, and what came out of it is kept; the following lines
with the same bytes around their text get a copy of that with their own text.

Everything else goes LiteLLM's way as before: the first chunk, tool calls, log probabilities, reasons to end, usage,
errors, texts that are empty, whatever is not asked of vLLM. Spend, limits, hooks, guardrails and logs see the same
chunks. In a version of LiteLLM that this was not made for nothing is changed, and the log says so.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from dataclasses import dataclass
from typing import Any

from plain_text import Line, Plain, fold, learned, written

MADE_FOR = "1.109.1"
_PROVIDERS = frozenset({"hosted_vllm"})
_LOG = logging.getLogger("plain_chunks")


@dataclass(slots=True)
class Piece:
    """A plain text on its way from the reader to the stream wrapper."""

    text: str
    line: str


def spare(handler: type, wrapper: type) -> None:
    """Puts the short way before LiteLLM's: `handler` reads lines, `wrapper` makes chunks of what it read."""
    read_line, create = handler._handle_string_chunk, wrapper.chunk_creator  # type: ignore[attr-defined]
    accumulate = wrapper._accumulate_streamed_delta  # type: ignore[attr-defined]
    build = wrapper._async_build_complete_streaming_response  # type: ignore[attr-defined]

    @functools.wraps(read_line)
    def read_plain_line(self: Any, str_line: str) -> Any:
        plain: Plain | None = getattr(self, "_plain", None)
        if plain is not None:
            text = plain.text_of(str_line)
            if text is not None:
                return Piece(text, str_line)
        chunk = read_line(self, str_line)
        self._read = (str_line, chunk)
        return chunk

    @functools.wraps(create)
    def create_plain_chunk(self: Any, chunk: Any) -> Any:
        reader = self.completion_stream
        if type(chunk) is Piece:
            if self.received_finish_reason is None and not self.sent_last_chunk:
                self.raise_on_model_repetition()
                made = reader._plain.with_text(chunk.text)
                self.__dict__.setdefault("_plain_of", {})[id(made)] = reader._plain
                # What kind of delta it is, is known: the one that was learned from has been looked at.
                self._looked_at = made.choices[0].delta
                return made
            chunk = read_line(reader, chunk.line)
        result = create(self, chunk)
        line, read = getattr(reader, "_read", (None, None))
        if read is chunk and line is not None and result is not None and self.custom_llm_provider in _PROVIDERS:
            reader._read = (None, None)
            if not self.merge_reasoning_content_in_choices and (kind := Line.read(line)) is not None:
                reader._plain = learned(kind, result)
        return result

    @functools.wraps(accumulate)
    def accumulate_plain_text(self: Any, delta: Any) -> None:
        if delta is not getattr(self, "_looked_at", None):
            accumulate(self, delta)
            return
        content = delta.__pydantic_extra__["content"]
        self.response_uptil_now += content if isinstance(content, str) else ""

    @functools.wraps(build)
    async def build_of_fewer(self: Any) -> Any:
        fold(self.chunks, self.__dict__.pop("_plain_of", {}))
        return await build(self)

    handler._handle_string_chunk = read_plain_line  # type: ignore[attr-defined]
    wrapper.chunk_creator = create_plain_chunk  # type: ignore[attr-defined]
    wrapper._accumulate_streamed_delta = accumulate_plain_text  # type: ignore[attr-defined]
    wrapper._async_build_complete_streaming_response = build_of_fewer  # type: ignore[attr-defined]


def shorten_writing(proxy: Any) -> None:
    """LiteLLM's writer asks pydantic for a dozen fields that a plain chunk has not; here they are looked up."""
    write, dumps = proxy._fast_serialize_simple_model_response_stream, proxy.orjson.dumps

    @functools.wraps(write)
    def write_plain_chunk(chunk: Any) -> bytes | None:
        return written(chunk, dumps) or write(chunk)

    proxy._fast_serialize_simple_model_response_stream = write_plain_chunk


@functools.cache
def _gateway_hook() -> Any:
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - only the gateway has it
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper  # noqa: PLC0415
    from litellm.llms.openai.chat.gpt_transformation import OpenAIChatCompletionStreamingHandler  # noqa: PLC0415
    from litellm.proxy import proxy_server  # noqa: PLC0415

    found = importlib.metadata.version("litellm")
    if found == MADE_FOR:
        spare(OpenAIChatCompletionStreamingHandler, CustomStreamWrapper)
        shorten_writing(proxy_server)
    else:
        _LOG.warning("made for LiteLLM %s, found %s: streams go the long way", MADE_FOR, found)
    return CustomLogger()


def __getattr__(name: str) -> Any:
    """LiteLLM takes `plain_chunks.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)
