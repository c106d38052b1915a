"""What the roles exporters and monitoring would write for a small site, rendered by Ansible on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "monitoring" / "files" / "rules"
NASTY = "p@ss/w:rd%20#'\"$x\\`+ ?"

SITE: dict[str, Any] = {
    "monitoring_engine_models": [
        {
            "name": "chat",
            "deployments": [
                {"id": "chat@h2", "host": "h2", "engine": "chat-a", "api_base": "http://10.0.0.12:8001/v1"},
                {"id": "chat@h3", "host": "h3", "engine": "chat-b", "api_base": "http://10.0.0.13:8001/v1"},
            ],
        }
    ],
    "monitoring_relays": [{"group": "chat", "model": "chat", "port": 4101}],
    "monitoring_hosts": {"h1": "10.0.0.11", "h2": "10.0.0.12", "h3": "10.0.0.13"},
    "monitoring_gateway_hosts": ["h1"],
    "monitoring_gpu_hosts": ["h2", "h3"],
    "monitoring_postgres_hosts": ["h1"],
    "monitoring_redis_hosts": ["h1"],
    "monitoring_edge_hosts": ["h1"],
    "exporters_address": "10.0.0.11",
    "exporters_source": "/nowhere/sight.pyz",
    "exporters_allowed_addresses": ["10.0.0.11"],
    "exporters_units": ["vllm@.+", "litellm.*"],
    "exporters_gateway_url": "http://10.0.0.11:4000",
    "exporters_postgres_port": 5432,
    "exporters_redis_port": 6379,
    "exporters_redis_password": NASTY,
}


def render(directory: Path, **changes: Any) -> Path:
    """All files, in this directory."""
    variables = directory / "variables.json"
    variables.write_text(json.dumps({**SITE, **changes, "output_directory": str(directory)}), encoding="utf-8")
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", f"@{variables}"),
            str(ROOT / "tests" / "ansible" / "monitoring_templates.yml"),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(directory / "none.cfg"), "ANSIBLE_LOCAL_TEMP": str(directory / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == completed.returncode, completed.stdout + completed.stderr
    return directory
