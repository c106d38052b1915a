"""Schema: the JSON Schemas of the documents, generated from the models that check them."""

import json
from pathlib import Path

from sizing.access import Access
from sizing.alerts import Alerts
from sizing.answer import Estimate
from sizing.audit import Audit
from sizing.caching import Caching
from sizing.calibration import Calibration
from sizing.documents import Part
from sizing.guardrails import Guardrails
from sizing.hardware import Hardware
from sizing.observation import Observation
from sizing.plan import Plan
from sizing.providers import Providers
from sizing.report import Report
from sizing.request import Request
from sizing.routing import Routing
from sizing.tracing import Tracing


def documents() -> dict[str, type[Part]]:
    """Every document that passes between the parts, by the name of its schema."""
    return {
        "access": Access,
        "alerts": Alerts,
        "audit": Audit,
        "caching": Caching,
        "calibration": Calibration,
        "estimate": Estimate,
        "guardrails": Guardrails,
        "hardware": Hardware,
        "observation": Observation,
        "plan": Plan,
        "providers": Providers,
        "report": Report,
        "request": Request,
        "routing": Routing,
        "tracing": Tracing,
    }


def schema_text(document: type[Part]) -> str:
    """The JSON Schema of one document, by the names that stand in its files."""
    schema = document.model_json_schema(mode="validation", by_alias=True)
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def stale_schemas(directory: Path) -> tuple[Path, ...]:
    """The schema files that do not say what the models say."""
    expected = {directory / f"{name}.schema.json": schema_text(document) for name, document in documents().items()}
    different = [path for path, text in expected.items() if not path.exists() or path.read_text("utf-8") != text]
    unknown = [path for path in directory.glob("*.schema.json") if path not in expected]
    return tuple(sorted(different + unknown))


def write_schemas(directory: Path) -> tuple[Path, ...]:
    """Writes the stale ones (and removes those of documents that are gone); returns what it touched."""
    directory.mkdir(parents=True, exist_ok=True)
    stale = stale_schemas(directory)
    for path in stale:
        document = documents().get(path.name.removesuffix(".schema.json"))
        if document is None:
            path.unlink()
        else:
            path.write_text(schema_text(document), encoding="utf-8")
    return stale
