"""Hub: what a model hub (or a mirror that speaks its protocol) holds, and one file of it, through huggingface_hub.

Apart from `fetch.py` so that every name of that library stays here. Files come over plain HTTP with byte ranges
rather than Xet: mirrors and proxies serve that, and a part that is on disk is continued after the process was
killed (the library's own download starts such a file again, huggingface_hub 2.4.0, file_download.py).
The token comes from HF_TOKEN alone, never from an option, where other users of the machine could read it.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ["HF_HUB_DISABLE_XET"] = "1"

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils._headers import build_hf_headers

from sizing.errors import SizingError

TIMEOUT_SECONDS = 30

_TRANSPORT_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
"""The HTTP client's own base error; which client it is changed between versions of the library."""

hub_logging.set_verbosity(logging.ERROR)  # retries are silent; what is given up on is told below


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """One file of a revision. `sha256` is known for large files, the git blob id for all."""

    path: str
    length_bytes: int
    blob_id: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Hub:
    """One hub: its endpoint (None: the library's default, or HF_ENDPOINT)."""

    endpoint: str | None = None

    @property
    def name(self) -> str:
        """The endpoint, for messages."""
        return self._api.endpoint

    @property
    def _api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=_token(), library_name="llm-appliance")

    def resolve(self, model: str, revision: str | None) -> str:
        """The commit hash behind a branch, a tag or nothing (the default branch)."""
        with self._told(model, revision):
            commit = self._api.model_info(model, revision=revision, timeout=TIMEOUT_SECONDS).sha
        if commit is None:
            raise SizingError(f"{self.name} names no commit for {model}; give --revision")
        return commit

    def files(self, model: str, commit: str) -> tuple[HubFile, ...]:
        """Every file of a commit."""
        with self._told(model, commit):
            return tuple(
                HubFile(
                    path=entry.path,
                    length_bytes=entry.size,
                    blob_id=entry.blob_id,
                    sha256=entry.lfs.sha256 if entry.lfs else None,
                )
                for entry in self._api.list_repo_tree(model, recursive=True, revision=commit)
                if isinstance(entry, RepoFile)
            )

    def download(self, model: str, commit: str, file: HubFile, part: Path, advance: Callable[[int], None]) -> None:
        """Fetches one file into `part`, continuing what is there; `advance` hears of every piece."""
        present_bytes = part.stat().st_size if part.exists() else 0
        if present_bytes > file.length_bytes:
            part.unlink()
            present_bytes = 0
        advance(present_bytes)
        headers = {
            **build_hf_headers(token=_token(), library_name="llm-appliance"),
            "Accept-Encoding": "identity",
        }
        with self._told(model, commit), part.open("ab") as stream:
            http_get(
                hf_hub_url(model, file.path, revision=commit, endpoint=self.endpoint),
                stream,
                resume_size=present_bytes,
                headers=headers,
                expected_size=file.length_bytes,
                displayed_filename=file.path,
                tqdm_class=_listener(advance),
            )

    @contextlib.contextmanager
    def _told(self, model: str, revision: str | None) -> Iterator[None]:
        """Turns what can go wrong between here and the hub into one line each."""
        try:
            yield
        except GatedRepoError:
            raise SizingError(
                f"{model} is gated: accept its terms at {self.name} and set HF_TOKEN to a token of that account"
            ) from None
        except RepositoryNotFoundError:
            raise SizingError(
                f"{self.name} has no model {model}, or it is private; check the name, and set HF_TOKEN if it is private"
            ) from None
        except RevisionNotFoundError:
            raise SizingError(f"{model} has no revision {revision} at {self.name}") from None
        except HFValidationError as error:
            raise SizingError(f"{model} is not the name of a model (owner/name): {error}") from None
        except OfflineModeIsEnabled:
            raise SizingError("HF_HUB_OFFLINE is set, so nothing can be fetched; unset it") from None
        except HfHubHTTPError as error:
            raise SizingError(
                f"{self.name} answers {error.response.status_code} for {model}; run again later, it resumes"
            ) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise SizingError(f"{self.name} broke off {model}: {error}; run again, it resumes") from None
        except _TRANSPORT_ERROR as error:
            raise SizingError(
                f"cannot reach {self.name} ({str(error) or type(error).__name__}); check the network and the proxy "
                "variables, or name a mirror with --endpoint; running again resumes"
            ) from None


def _token() -> str | bool:
    return os.environ.get("HF_TOKEN") or False


def _listener(advance: Callable[[int], None]) -> type[Any]:
    """What the library takes for a progress bar class."""

    class Listener:
        def __init__(self, *_: object, **__: object) -> None:
            """Takes a bar's arguments and needs none."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def update(self, count: int | float | None = 1) -> None:
            advance(int(count or 0))

    return Listener
