"""Replies: vLLM 0.32's JSON, field by field and in its order (`exclude_unset`: what is set is there, even as null)."""

import json
import secrets
from collections.abc import Sequence as Items
from typing import Any

from benchmarks.fault_engine import model
from benchmarks.fault_engine.asked import Asked
from benchmarks.fault_engine.sequence import Sequence, Step

FINGERPRINT = "fault-engine"
_text_json = json.JSONEncoder(ensure_ascii=False).encode  # vLLM writes UTF-8, not \u escapes


DONE = b"data: [DONE]\n\n"


def error_body(status: int, message: str, kind: str) -> dict[str, Any]:
    """An error as vLLM says it, with a status or inside a stream."""
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def error_event() -> bytes:
    """What a stream says when the engine core has died."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return f"data: {json.dumps(error_body(500, message, 'InternalServerError'))}\n\n".encode()


class Replies:
    """Everything said to one request."""

    def __init__(self, asked: Asked, *, identity: str, created: int) -> None:
        self._asked, self._identity, self._created = asked, identity, created
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        self._head = (
            f'data: {{"id":{json.dumps(identity)},"object":"{kind}","created":{created},'
            f'"model":{json.dumps(asked.model)},"choices":['
        )
        self._offsets: dict[int, int] = {}
        self._withheld: dict[int, str] = {}  # arguments of calls, by choice

    def opening(self) -> bytes:
        """The role chunks of a chat, which carry the prompt's ids."""
        if not self._asked.chat:
            return b""
        prompt = self._asked.prompts[0]
        ids = json.dumps(prompt, separators=(",", ":")) if self._asked.return_token_ids else "null"
        usage = f',"usage":{self._usage(len(prompt), 0)}' if self._asked.continuous_usage else ""
        return b"".join(
            f'{self._head}{{"index":{index},"delta":{{"role":"assistant","content":""}},"logprobs":null,'
            f'"finish_reason":null}}],"prompt_token_ids":{ids},"prompt_text":null{usage}}}\n\n'.encode()
            for index in range(self._asked.count)
        )

    def chunk(self, sequence: Sequence, step: Step) -> bytes:
        """One step of one choice."""
        asked = self._asked
        ids = f"[{','.join(map(str, step.tokens))}]" if asked.return_token_ids else "null"
        finish = f'"{step.finish_reason}"' if step.finish_reason else "null"
        logprobs = "null" if asked.logprobs is None else json.dumps(self._logprobs(sequence, step), ensure_ascii=False)
        if asked.chat:
            if asked.forced_tool:
                delta = self._call(sequence.index, step)
                if delta == "{}" and not asked.return_token_ids and not step.finish_reason:
                    return b""
            elif step.reasoning:
                delta = f'{{"reasoning":{_text_json(step.reasoning)}}}'
            elif step.tokens[-1:] == (model.END_THINK,):
                delta = "{}"
            else:
                delta = f'{{"content":{_text_json(step.text)}}}'
            reason = f',"stop_reason":{json.dumps(step.stop_reason)}' if step.finish_reason else ""
            choice = (
                f'{{"index":{sequence.index},"delta":{delta},"logprobs":{logprobs},"finish_reason":{finish}'
                f'{reason},"token_ids":{ids}}}'
            )
        else:
            first = len(sequence.tokens) == len(step.tokens)
            text = step.text
            if first and asked.echo:
                text = b"".join(map(model.piece_of, sequence.prompt)).decode("utf-8", "replace") + text
            prompt = json.dumps(sequence.prompt, separators=(",", ":")) if first and asked.return_token_ids else "null"
            choice = (
                f'{{"index":{sequence.index},"text":{_text_json(text)},"logprobs":{logprobs},"finish_reason":{finish},'
                f'"stop_reason":{json.dumps(step.stop_reason)},"prompt_token_ids":{prompt},"token_ids":{ids}}}'
            )
        usage = ""
        if asked.continuous_usage:
            usage = f',"usage":{self._usage(len(sequence.prompt), len(sequence.tokens))}'
        mark = f',"system_fingerprint":"{FINGERPRINT}"' if step.finish_reason and not asked.include_usage else ""
        return f"{self._head}{choice}]{mark}{usage}}}\n\n".encode()

    def _call(self, index: int, step: Step) -> str:
        """Of a tool call: the name at once, its arguments when they are whole, as some of vLLM's parsers do it."""
        first = index not in self._withheld
        self._withheld[index] = self._withheld.get(index, "") + step.text
        if first:
            function = f'{{"name":{_text_json(self._asked.forced_tool)},"arguments":""}}'
            head = f'"id":"chatcmpl-tool-{secrets.token_hex(8)}","type":"function","index":0'
            return f'{{"tool_calls":[{{{head},"function":{function}}}]}}'
        if not step.finish_reason:
            return "{}"
        return f'{{"tool_calls":[{{"index":0,"function":{{"arguments":{_text_json(self._withheld[index])}}}}}]}}'

    def closing(self, sequences: Items[Sequence]) -> bytes:
        """The usage chunk, if asked for, and the end."""
        if not self._asked.include_usage:
            return DONE
        usage = f'],"usage":{self._usage(*self.counted(sequences))},"system_fingerprint":"{FINGERPRINT}"}}\n\n'
        return (self._head + usage).encode() + DONE

    def whole(self, sequences: Items[Sequence]) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        asked = self._asked
        prompt_tokens, completion_tokens = self.counted(sequences)
        usage = {
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
            "prompt_tokens_details": None,
        }
        common = {"id": self._identity, "created": self._created, "model": asked.model}
        choices = [self._choice(sequence) for sequence in sequences]
        kind = "chat.completion" if asked.chat else "text_completion"
        ids = list(asked.prompts[0]) if asked.chat and asked.return_token_ids else None
        extra = {"prompt_token_ids": ids} if asked.chat else {}
        return common | {"object": kind, "choices": choices, "usage": usage, **extra}

    def counted(self, sequences: Items[Sequence]) -> tuple[int, int]:
        """(prompt tokens, completion tokens): each prompt once, whatever n is."""
        return sum(map(len, self._asked.prompts)), sum(len(sequence.tokens) for sequence in sequences)

    def _choice(self, sequence: Sequence) -> dict[str, Any]:
        asked = self._asked
        step = Step(
            text=sequence.text,
            reasoning="",
            tokens=tuple(sequence.tokens),
            finish_reason=sequence.finish_reason,
            stop_reason=sequence.stop_reason,
        )
        said: dict[str, Any] = {
            "index": sequence.index,
            "logprobs": None if asked.logprobs is None else self._logprobs(sequence, step),
            "finish_reason": sequence.finish_reason,
            "stop_reason": sequence.stop_reason,
            "token_ids": sequence.tokens if asked.return_token_ids else None,
        }
        if asked.chat:
            message: dict[str, Any] = {"role": "assistant", "content": sequence.text, "refusal": None, "tool_calls": []}
            return said | {"message": message | {"reasoning": sequence.reasoning or None}}
        prompt = list(sequence.prompt) if asked.return_token_ids else None
        return said | {"text": sequence.text, "prompt_token_ids": prompt, "prompt_logprobs": None}

    def _logprobs(self, sequence: Sequence, step: Step) -> dict[str, Any]:
        count = self._asked.logprobs or 0
        if self._asked.chat:
            return {"content": [_entry(token) | {"top_logprobs": _alternatives(token, count)} for token in step.tokens]}
        names = [model.name_of(token) for token in step.tokens]
        offsets = []
        at = self._offsets.get(sequence.index, 0)
        for name in names:
            offsets.append(at)
            at += len(name)
        self._offsets[sequence.index] = at
        return {
            "text_offset": offsets,
            "token_logprobs": [_logprob(token) for token in step.tokens],
            "tokens": names,
            "top_logprobs": [
                {entry["token"]: entry["logprob"] for entry in _alternatives(token, max(count, 1))}
                for token in step.tokens
            ],
        }

    @staticmethod
    def _usage(prompt: int, completion: int) -> str:
        return f'{{"prompt_tokens":{prompt},"total_tokens":{prompt + completion},"completion_tokens":{completion}}}'


def _logprob(token: int) -> float:
    return -(token % 16) / 16


def _entry(token: int) -> dict[str, Any]:
    name = model.name_of(token)
    return {"token": name, "logprob": _logprob(token), "bytes": list(model.piece_of(token) or name.encode())}


def _alternatives(token: int, count: int) -> list[dict[str, Any]]:
    return [_entry((token + 16 * place) % len(model.PIECES)) for place in range(count)]
