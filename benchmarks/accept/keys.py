"""Keys: the throwaway keys of one run. Made with the master key through the gateway's API, deleted at the end; one that
is left behind by a run that was killed ends by itself.
"""

import hashlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.errors import BadLoad

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """One virtual key."""

    alias: str
    secret: str = field(repr=False)

    @property
    def hash(self) -> str:
        """What PostgreSQL knows the key by."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


class Keys:
    """Makes keys, and deletes all that it made."""

    def __init__(self, base_url: str, master_key: str, *, lifetime_hours: int) -> None:
        headers = {"Authorization": f"Bearer {master_key}"}
        self._client = httpx.Client(
            base_url=base_url.rstrip("/").removesuffix("/v1"), headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        self._lifetime = f"{lifetime_hours}h"
        self._made: list[Key] = []

    def make(self, alias: str, *, models: tuple[str, ...], budget: float | None = None) -> Key:
        """A key for these models."""
        asked: dict[str, Any] = {"key_alias": alias, "duration": self._lifetime, "models": list(models)}
        if budget is not None:
            asked["max_budget"] = budget
        answer = self._post("/key/generate", asked)
        if answer.status_code != httpx.codes.OK or not answer.json().get("key"):
            raise BadLoad(f"the gateway made no key: {answer.status_code} {' '.join(answer.text.split())[:200]}")
        key = Key(alias=alias, secret=answer.json()["key"])
        self._made.append(key)
        return key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._made:
                self._post("/key/delete", {"key_aliases": [key.alias for key in self._made]})
        except BadLoad:
            if error is None:
                raise
        finally:
            self._client.close()

    def _post(self, path: str, content: dict[str, Any]) -> httpx.Response:
        try:
            return self._client.post(path, json=content)
        except httpx.HTTPError as error:
            address = self._client.base_url
            raise BadLoad(
                f"{address}: the gateway does not answer: {error or type(error).__name__}; is it reachable from this "
                "machine? --gateway names another address"
            ) from None
