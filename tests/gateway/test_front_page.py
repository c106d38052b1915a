"""The page for people, from a living gateway, read by a real browser where there is one."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.gateway.conftest import Site
from tests.gateway.processes import ask

pytestmark = pytest.mark.lab

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
BROWSER_SECONDS = 90


def browse(address: str, *more: str) -> str:
    """The document after its script ran."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"),
            *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=10000"),
        ]
        done = subprocess.run(
            [*command, *more, address], capture_output=True, text=True, timeout=BROWSER_SECONDS, check=True
        )
    return done.stdout


def test_anybody_may_read_the_page_and_which_models_serve(site: Site) -> None:
    page = ask(f"{site.gateway.address}/", key="")
    status = ask(f"{site.gateway.address}/front-page/status", key="")

    assert 200 == page.status
    assert "text/html" in page.headers["content-type"]
    assert '<tr data-model="chat">' in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert 200 == status.status
    assert True is status.json["models"]["chat"]


def test_the_reference_of_the_interface_has_moved(site: Site) -> None:
    assert "swagger" in ask(f"{site.gateway.address}/docs", key="").body.lower()


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_status_address_and_both_languages(site: Site, tmp_path: Path) -> None:
    english = browse(f"{site.gateway.address}/#en", "--dump-dom")
    korean = browse(f"{site.gateway.address}/#ko", "--dump-dom")
    picture = tmp_path / "front-page.png"
    browse(f"{site.gateway.address}/#en", f"--screenshot={picture}", "--window-size=390,900")

    assert '<html lang="en" class="en">' in english
    assert '<html lang="ko" class="ko">' in korean
    for document in (english, korean):
        assert 'class="status serving"' in document
        assert f'<code class="address">{site.gateway.address}/v1</code>' in document
    assert picture.read_bytes().startswith(b"\x89PNG")
