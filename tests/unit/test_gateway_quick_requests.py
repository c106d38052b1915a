"""What LiteLLM cannot import it does not try at every request, and what it can import stays as it is."""

import importlib.util
from types import ModuleType, SimpleNamespace

import pytest

from tests.gateway.processes import FILES

NAME = "litellm.integrations.otel.logger"


@pytest.fixture
def quick() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quick_requests", FILES / "quick_requests.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_lacks_its_need_fails_at_once(quick: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quick.NEEDS, NAME, "a_package_that_nobody_has.sdk")
    modules: dict[str, ModuleType | None] = {}

    assert quick.fail_at_once(modules) == [NAME]
    assert modules == {NAME: None}  # Python's own sign for "do not look"


def test_what_has_its_need_or_is_loaded_is_left_alone(quick: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quick.NEEDS, NAME, "json")
    assert quick.fail_at_once({}) == []

    monkeypatch.setitem(quick.NEEDS, NAME, "a_package_that_nobody_has")
    loaded = {NAME: ModuleType(NAME)}
    assert quick.fail_at_once(loaded) == []
    assert isinstance(loaded[NAME], ModuleType)


def test_arguments_get_their_names_as_before_and_none_ask_for_none(quick: ModuleType) -> None:
    asked: list[object] = []

    def convert(*given: object) -> dict[str, object]:
        asked.append(given)
        return {"model": "chat"}

    handler = SimpleNamespace(convert_args_to_kwargs=convert)
    quick.ask_only_with_arguments(handler)

    assert handler.convert_args_to_kwargs(print, ("chat",)) == {"model": "chat"}
    assert handler.convert_args_to_kwargs(print, ()) == {}
    assert handler.convert_args_to_kwargs(print) == {}
    assert asked == [(print, ("chat",))]


def test_a_litellm_without_that_function_is_left_as_it_is(quick: ModuleType) -> None:
    handler = SimpleNamespace()
    quick.ask_only_with_arguments(handler)

    assert vars(handler) == {}
