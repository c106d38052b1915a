"""The page's status: one healthy address is enough, and nobody can make the gateway ask all the time."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files" / "front_page.py"


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("front_page", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_model_serves_as_long_as_one_of_its_addresses_answers() -> None:
    async def healthy(address: str) -> bool:
        return address == "b"

    status = loaded().Status({"chat": ["a", "b"], "code": ["c"]}, healthy)

    assert {"chat": True, "code": False} == asyncio.run(status.now())["models"]


def test_a_crowd_of_readers_asks_each_address_once() -> None:
    asked: list[str] = []

    async def healthy(address: str) -> bool:
        asked.append(address)
        await asyncio.sleep(0)
        return True

    async def crowd() -> None:
        status = loaded().Status({"chat": ["a"], "code": ["a", "b"]}, healthy)
        await asyncio.gather(*(status.now() for _ in range(50)))

    asyncio.run(crowd())

    assert ["a", "b"] == sorted(asked)
