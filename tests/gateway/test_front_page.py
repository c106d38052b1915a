"""The page for people, from a living gateway, read by a real browser where there is one."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.image
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
    assert status.json["models"]["chat"] is True


def test_the_reference_of_the_interface_has_moved(site: Site) -> None:
    assert "swagger" in ask(f"{site.gateway.address}/docs", key="").body.lower()


def test_declared_models_stand_beside_own_ones_with_windows_and_prices(site: Site) -> None:
    page = ask(f"{site.gateway.address}/", key="").body
    rows = dict(re.findall(r'<tr data-(?:model|declared)="([^"]+)">(.*?)</tr>', page, re.DOTALL))
    cells = {
        name: [_english(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for name, row in rows.items()
    }

    assert ["chat", "unknown", "3,072", "1,024", "1.0000", "2.0000"] == cells["chat"]
    assert ["research-chat", "another server here", "28,672", "4,096", "500.0000", "1000.0000"] == cells[
        "research-chat"
    ]
    assert ["research-vectors embeddings", "another server here", "8,192", "-", "0", "-"] == cells["research-vectors"]
    assert ["gpt", "elsewhere", "272,000", "128,000", "list price", "list price"] == cells["gpt"]
    assert "Prices in KRW." in page
    assert "leave these servers" in page
    assert "stays on them" not in page


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_status_address_and_both_languages(site: Site) -> None:
    english = browse(f"{site.gateway.address}/#en", "--dump-dom")
    korean = browse(f"{site.gateway.address}/#ko", "--dump-dom")

    assert '<html lang="en" class="en">' in english
    assert '<html lang="ko" class="ko">' in korean
    for document in (english, korean):
        assert 'class="status serving"' in document
        assert f'<code class="address">{site.gateway.address}/v1</code>' in document


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
@pytest.mark.parametrize(("scheme", "paper"), [("light", "#f6f7f9"), ("dark", "#0f1217")])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_browser_paints_it_light_and_dark_in_both_languages(
    site: Site, tmp_path: Path, scheme: str, paper: str, language: str
) -> None:
    picture = tmp_path / "page.png"
    wanted = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    browse(f"{site.gateway.address}/#{language}", wanted, f"--screenshot={picture}", "--window-size=1100,1500")

    pixels = matplotlib.image.imread(picture)[:, :, :3]
    assert (1500, 1100) == pixels.shape[:2]
    assert paper == "#" + "".join(f"{round(part * 255):02x}" for part in pixels[5, 5])
    assert pixels.std() > 0.05  # words and tables are on it


def _english(cell: str) -> str:
    """The words of a cell without its Korean ones."""
    text = re.sub(r'<span lang="ko">.*?</span>', "", cell)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())
