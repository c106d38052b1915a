"""Embeddings through a living gateway: real LiteLLM, a relay that is for vectors, the bill to the token."""

import time
from typing import Any

import pytest

from tests.gateway.conftest import INPUT_COST, Site
from tests.gateway.processes import ask

pytestmark = pytest.mark.lab

DEADLINE_SECONDS = 120.0
TEXTS = ["Hello", "Hello there, network machine"]


def embed(site: Site, key: str, text: Any) -> Any:
    return site.gateway.post("/v1/embeddings", {"model": "vectors", "input": text}, key=key)


def test_texts_become_vectors_and_the_bill_is_the_engines_count(site: Site) -> None:
    key = site.gateway.make_key(key_alias="embedder")

    answer = embed(site, key, TEXTS)

    assert 200 == answer.status, answer.body
    assert [0, 1] == [row["index"] for row in answer.json["data"]]
    tokens = answer.json["usage"]["prompt_tokens"]
    bill = "SELECT prompt_tokens, completion_tokens, source, endpoint FROM appliance.usage WHERE key_alias = 'embedder'"
    wanted = f"{tokens}|0|relay|/v1/embeddings"
    assert wanted == site.wait_for(wanted, bill, reconciles=True)
    spent = float(site.sql("SELECT spend FROM \"LiteLLM_VerificationToken\" WHERE key_alias = 'embedder'"))
    assert spent == pytest.approx(tokens * INPUT_COST)


def test_the_gateway_and_its_page_say_that_it_is_an_embedding_model_with_its_window(site: Site) -> None:
    rows = ask(f"{site.gateway.address}/model/info").json["data"]
    page = ask(f"{site.gateway.address}/", key="").body

    (info,) = [row["model_info"] for row in rows if row["model_name"] == "vectors"]
    assert ("embedding", 4096) == (info["mode"], info["max_input_tokens"])
    row = page[page.index('data-model="vectors"') :].partition("</tr>")[0]
    assert "embeddings" in row
    assert "<td>4,096</td><td>-</td>" in row
    assert '{"model": "vectors", "input"' in page


def test_the_page_says_that_its_engines_serve(site: Site) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    models: dict[str, bool] = {}
    while not models.get("vectors") and time.monotonic() < deadline:
        models = ask(f"{site.gateway.address}/front-page/status", key="").json["models"]
        time.sleep(1)

    assert models.get("vectors") is True, models
