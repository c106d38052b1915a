"""Check a bundle: is it whole, and who stands behind it? Apart from what writes bundles, so that checking one needs
neither Locust nor charts.
"""

import os
from pathlib import Path

from benchmarks import signing
from benchmarks.acceptance import Acceptance
from benchmarks.errors import BadLoad, BrokenBundle

SIGNERS_VARIABLE = "LLM_APPLIANCE_ALLOWED_SIGNERS"
DOCUMENT = "report.json"


def allowed_signers(given: Path | None) -> Path | None:
    """The list of those who may sign, from the option or the environment."""
    named = str(given) if given else os.environ.get(SIGNERS_VARIABLE, "")
    return Path(named).expanduser() if named else None


def check_bundle(bundle: Path, signers: Path | None) -> str:
    """What a signed bundle says, in one line; raises BrokenBundle if it does not hold."""
    if signers is None:
        raise BadLoad(f"name the list of those who may sign: --allowed-signers FILE or {SIGNERS_VARIABLE}")
    if not bundle.is_dir():
        raise BadLoad(f"{bundle}: no such directory")
    signer = signing.check(bundle, allowed_signers=signers)
    acceptance = Acceptance.load(bundle / DOCUMENT)
    agreed = acceptance.criteria.signer
    if agreed is not None and agreed != signer:
        raise BrokenBundle(f"{bundle}: signed by {signer}, but {agreed} was agreed to sign")
    return f"{bundle}: whole, signed by {signer}: {acceptance.site} {acceptance.outcome}, {acceptance.accepted_at}"
