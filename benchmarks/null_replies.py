"""Null replies: the bytes that the null server sends, numbered token by token, with the defects asked for."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from benchmarks.null_behaviour import Behaviour

EVENT_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
DEFAULT_TOKENS = 16
STOPPING = ("cut", "cut_clean", "silent", "endless")


def frame(event: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(event), event)


def plain_reply(content_type: str, body: bytes, *, status: int = 200) -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def json_reply(content: Any, *, status: int = 200) -> bytes:
    """A whole HTTP answer with JSON."""
    return plain_reply("application/json", json.dumps(content).encode(), status=status)


def http_error(status: int, message: str) -> bytes:
    """An error in OpenAI's shape."""
    return json_reply({"error": {"message": message, "type": "null_server", "code": status}}, status=status)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer: `tokens` tokens, the first `reasoning` of them reasoning, and perhaps a planted defect half-way."""

    identity: str
    tag: str
    model: str
    chat: bool
    streamed: bool
    tokens: int
    reasoning: int
    prompt_tokens: int
    fault: str
    head: bytes
    before: bytes
    after: bytes

    @classmethod
    def to(cls, asked: dict[str, Any], *, request_id: str, chat: bool, behaviour: Behaviour) -> Self:
        """The reply to a request."""
        model = str(asked.get("model", "null")).partition("?")[0]
        wished = asked.get("max_tokens") or asked.get("max_completion_tokens") or DEFAULT_TOKENS
        tokens = behaviour.tokens or int(wished)
        identity = ("chatcmpl-" if chat else "cmpl-") + request_id
        kind = "chat.completion.chunk" if chat else "text_completion"
        head = f'data: {{"id":"{identity}","object":"{kind}","created":1700000000,"model":"{model}",'
        return cls(
            identity=identity,
            tag=request_id.replace(".", "_"),
            model=model,
            chat=chat,
            streamed=bool(asked.get("stream")),
            tokens=tokens,
            reasoning=min(behaviour.reasoning, tokens),
            prompt_tokens=_prompt_tokens(asked),
            fault=behaviour.fault,
            head=head.encode(),
            before=head.encode() + b'"choices":[{"index":0,',
            after=b',"logprobs":null,"finish_reason":null}]}\n\n',
        )

    def role_event(self) -> bytes:
        """What vLLM sends just before the first token, once it has that: no sooner."""
        said = b'"delta":{"role":"assistant","content":""}' if self.chat else b'"text":""'
        return self.before + said + self.after

    def token_event(self, index: int, *, tag: str | None = None) -> bytes:
        """Token number `index`: its text names stream and number."""
        text = f" {self.tag if tag is None else tag}.{index}".encode()
        if not self.chat:
            said = b'"text":"%s"' % text
        elif index < self.reasoning:
            said = b'"delta":{"reasoning_content":"%s"}' % text
        else:
            said = b'"delta":{"content":"%s"}' % text
        return self.before + said + self.after

    def piece(self, index: int) -> bytes | None:
        """The bytes for turn `index`, or None when the ending is due."""
        if index >= self.tokens or self.fault == "empty":
            return None
        if self.fault in STOPPING and index == self.tokens // 2:
            return None
        greeting = frame(self.role_event()) if index == 0 else b""
        if index != self.tokens // 2 or not self.fault:
            return greeting + frame(self.token_event(index))
        return greeting + self._defective(index)

    def _defective(self, index: int) -> bytes:
        event = self.token_event(index)
        error = {"error": {"message": "engine died", "type": "internal_error", "code": 500}}
        return {
            "skip": b"",
            "duplicate": frame(event) * 2,
            "foreign_text": frame(self.token_event(index, tag="somebody_else")),
            "foreign": frame(event.replace(self.identity.encode(), b"chatcmpl-somebody-else", 1)),
            "error": frame(b"data: " + json.dumps(error).encode() + b"\n\n"),
        }.get(self.fault, frame(event))

    def ending(self) -> bytes:
        """Finish reason, usage, [DONE], end of the HTTP body."""
        if self.fault == "cut_clean":
            return b"0\r\n\r\n"
        said = b'"delta":{}' if self.chat else b'"text":""'
        finish = self.before + said + b',"logprobs":null,"finish_reason":"length"}]}\n\n'
        usage = self.head + b'"choices":[],"usage":%s}\n\n' % json.dumps(self.usage()).encode()
        return frame(finish) + frame(usage) + frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def usage(self) -> dict[str, Any]:
        """Token counts in OpenAI's shape."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens + self.tokens,
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def whole(self) -> dict[str, Any]:
        """The answer to a request that was not streamed."""
        text = "".join(f" {self.tag}.{index}" for index in range(self.tokens))
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {
            "id": self.identity,
            "object": "chat.completion" if self.chat else "text_completion",
            "created": 1700000000,
            "model": self.model,
            "choices": [{"index": 0, **said, "finish_reason": "length"}],
            "usage": self.usage(),
        }


def _prompt_tokens(asked: dict[str, Any]) -> int:
    """Words of the prompt: the null server's tokens."""
    messages = asked.get("messages") or [{"content": asked.get("prompt", "")}]
    return sum(len(str(message.get("content", "")).split()) for message in messages)
