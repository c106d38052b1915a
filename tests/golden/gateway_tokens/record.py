"""Asks a real engine how many tokens each request of requests.json has, and writes its answers beside the tokenizer.

  vllm serve DIR --served-model-name NAME --enforce-eager --trust-request-chat-template ...
  python record.py http://127.0.0.1:8000 NAME VLLM_VERSION

An engine states the tokens of a prompt in the `usage` of its answer. Chat requests are asked with the model's own
template and with each template of this directory.
"""

import copy
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def prompt_tokens(base_url: str, path: str, body: dict[str, Any]) -> int | str:
    """Tokens the engine counted, or the first line of its refusal."""
    request = urllib.request.Request(  # noqa: S310
        f"{base_url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return int(json.load(response)["usage"]["prompt_tokens"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["error"]["message"]).splitlines()[0]


def expand(case: dict[str, Any]) -> dict[str, Any]:
    """A case may repeat its text, so that long prompts stay readable here."""
    request = copy.deepcopy(case["request"])
    if "repeat" in case:
        request["messages"][0]["content"] *= case["repeat"]
    return request


def main() -> None:
    base_url, model, version = sys.argv[1:]
    templates = {"own": None, **{path.stem: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.jinja"))}}
    counts: dict[str, dict[str, int | str]] = {}
    for case in json.loads((HERE / "requests.json").read_text(encoding="utf-8")):
        body = {**expand(case), "model": model, "max_tokens": 1}
        if "prompt" in body:
            counts[case["name"]] = {"own": prompt_tokens(base_url, "/v1/completions", body)}
            continue
        counts[case["name"]] = {
            name: prompt_tokens(
                base_url, "/v1/chat/completions", body if text is None else {**body, "chat_template": text}
            )
            for name, text in templates.items()
        }
    recorded = {"vllm_version": version, "model": model, "prompt_tokens": counts}
    (HERE / model / f"vllm-{version}.json").write_text(
        json.dumps(recorded, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
