"""Run by the gateway's interpreter: streams read as LiteLLM does by itself, then with the short way, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm  # type: ignore[import-not-found]
import plain_chunks  # type: ignore[import-not-found]
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper  # type: ignore[import-not-found]
from litellm.proxy import proxy_server  # type: ignore[import-not-found]

TAKEN: list[str] = []


async def serve(lines: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream as an engine sends it."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    body = "".join(f"{line}\n\n" for line in lines).encode("utf-8", "surrogatepass")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body)
    await writer.drain()
    writer.close()


def written(chunk: Any) -> str:
    """What the proxy writes of a chunk, and which of its fields count as set."""
    parts = [chunk, *chunk.choices, *(choice.delta for choice in chunk.choices)]
    fields = [sorted(part.model_fields_set) for part in parts]
    try:
        return f"{fields} {proxy_server._serialize_streaming_chunk(chunk)!r}"
    except (ValueError, TypeError) as error:
        return f"{fields} {error}"


async def heard(lines: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """What a client and LiteLLM's books get of it."""
    server = await asyncio.start_server(lambda r, w: serve(lines, r, w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    texts, error, kept = [], "", None
    try:
        answer = await litellm.acompletion(
            model="hosted_vllm/tiny", api_base=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0,
            messages=[{"role": "user", "content": "x"}], stream=True, **options,
        )  # fmt: skip
        kept = answer
        async for chunk in answer:
            hidden = {name: value for name, value in chunk.hidden_params.items() if name != "created_at"}
            assert chunk.hidden_params["created_at"] > 0
            chunk.model = "as-the-client-calls-it"  # as the proxy does with each
            texts.append([chunk.model_dump(), repr(hidden), written(chunk)])
    except Exception as raised:  # noqa: BLE001  (which one is what is compared)
        error = f"{type(raised).__name__}: {raised}".replace(str(port), "PORT")
    server.close()
    books = kept.chunks if kept is not None else []
    built = litellm.stream_chunk_builder(books)
    state = [] if kept is None else [kept.response_uptil_now, kept._emitted_disqualifying_content]
    said = json.dumps([texts, error, built.model_dump() if built else None, state], default=repr)
    return {"said": said.replace(str(port), "PORT"), "count": len(texts), "kept": len(books)}


def without_times(said: str) -> Any:
    """Less what every chunk is given when it is made."""
    content = json.loads(said)
    content[0] = [
        [chunk, hidden, text.replace(str(chunk.pop("created")), "created")] for chunk, hidden, text in content[0]
    ]
    if content[2]:
        content[2].pop("created")
    return content


async def main() -> None:
    """Streams come on the standard input: {name: {lines, options}}."""
    streams = json.loads(sys.stdin.read())
    long_way = {name: await heard(one["lines"], one["options"]) for name, one in streams.items()}
    with_text = plain_chunks.Plain.with_text

    def counted(self: Any, text: str, *, like: Any = None) -> Any:
        if like is None:
            TAKEN.append(text)
        return with_text(self, text, like=like)

    plain_chunks.Plain.with_text = counted
    assert plain_chunks.instance is not None
    assert CustomStreamWrapper.chunk_creator.__wrapped__ is not None
    told = {}
    for name, one in streams.items():
        TAKEN.clear()
        short = await heard(one["lines"], one["options"])
        before, after = (without_times(way["said"]) for way in (long_way[name], short))
        told[name] = {"before": before, "after": after, "taken": list(TAKEN), "chunks": short["count"]}
        told[name]["kept"] = [long_way[name]["kept"], short["kept"]]
    print(json.dumps(told))


asyncio.run(main())
