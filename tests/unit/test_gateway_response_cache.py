"""Who uses the cache of answers, and under which name: judged without a gateway."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files" / "response_cache.py"


@pytest.fixture(scope="module")
def module() -> Any:
    specification = importlib.util.spec_from_file_location("response_cache", PATH)
    assert specification is not None
    assert specification.loader is not None
    import sys

    made = importlib.util.module_from_spec(specification)
    sys.modules["response_cache"] = made
    specification.loader.exec_module(made)
    return made


def key(name: str, *, team: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(api_key=f"hash-of-{name}", key_alias=name, team_id=team)


def rules(module: Any, **changes: Any) -> Any:
    given = {"ttl_seconds": 600, "share": "key", "keys": frozenset({"report"}), "per_request": True}
    return module.Rules(**(given | changes))


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], "cache": {"use-cache": True}, **more}


def names(module: Any, share: str, *keys: SimpleNamespace) -> set[str]:
    return {module.control_for(asking(), one, rules(module, share=share))["namespace"] for one in keys}


def test_only_named_keys_and_requests_that_ask_use_it(module: Any) -> None:
    silent = {"model": "m", "messages": []}

    assert {} == module.control_for(silent, key("other"), rules(module))
    assert {} == module.control_for(asking(), key("other"), rules(module, per_request=False))
    assert {} == module.control_for(silent | {"cache": {"use-cache": False}}, key("report"), rules(module))
    assert module.control_for(silent, key("report"), rules(module))["use-cache"]
    assert module.control_for(asking(), key("other"), rules(module))["use-cache"]


def test_answers_are_shared_as_declared_and_by_default_with_nobody(module: Any) -> None:
    a, b, stranger = key("a", team="t"), key("b", team="t"), key("c", team="u")

    assert 3 == len(names(module, "key", a, b, stranger))
    assert 2 == len(names(module, "team", a, b, stranger))
    assert 1 == len(names(module, "everyone", a, b, stranger))
    assert 2 == len(names(module, "team", key("lone"), key("lonely")))


def test_what_a_client_sends_as_a_namespace_counts_for_nothing(module: Any) -> None:
    plain = module.control_for(asking(), key("a"), rules(module))
    cunning = asking(cache={"use-cache": True, "namespace": "answers:everyone"}, metadata={"redis_namespace": "x"})

    assert plain == module.control_for(cunning, key("a"), rules(module))


def test_every_field_that_a_client_sends_makes_another_request(module: Any) -> None:
    plain = module.control_for(asking(), key("a"), rules(module))["namespace"]

    for field in ("chat_template_kwargs", "structured_outputs", "temperature", "tools", "something_new"):
        assert plain != module.control_for(asking(**{field: {"a": 1}}), key("a"), rules(module))["namespace"], field
    for field in ("user", "metadata", "stream_options"):
        assert plain == module.control_for(asking(**{field: {"a": 1}}), key("a"), rules(module))["namespace"], field


@pytest.mark.parametrize(("wish", "life"), [(60, 60), (7200, 600), (-1, 600), ("60", 600), (True, 600), (None, 600)])
def test_a_life_may_be_shorter_than_declared_and_never_longer(module: Any, wish: Any, life: float) -> None:
    control = module.control_for(asking(cache={"use-cache": True, "ttl": wish}), key("a"), rules(module))

    assert life == control["ttl"]


def test_no_cache_and_no_store_go_on_to_litellm(module: Any) -> None:
    control = module.control_for(
        asking(cache={"use-cache": True, "no-cache": True, "no-store": True, "s-maxage": 5}), key("a"), rules(module)
    )

    assert (True, True, 5.0, 5.0) == tuple(control[name] for name in ("no-cache", "no-store", "s-maxage", "s-max-age"))
