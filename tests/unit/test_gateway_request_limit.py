"""The hook that counts every request against one more limit; tests/access shows it in a real gateway."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files" / "request_limit.py"


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("request_limit", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_request_gets_one_more_slot_beside_those_of_its_key() -> None:
    class Limiter:
        def create_rate_limit_descriptors(self, data: dict[str, Any], *, call_type: str) -> list[dict[str, Any]]:
            return [{"key": "api_key", "value": data["key"], "rate_limit": {"requests_per_unit": len(call_type)}}]

    hook().limit_all(Limiter, 7)

    assert [
        {"key": "api_key", "value": "k", "rate_limit": {"requests_per_unit": 4}},
        {"key": "gateway", "value": "all", "rate_limit": {"max_parallel_requests": 7}},
    ] == Limiter().create_rate_limit_descriptors({"key": "k"}, call_type="chat")
