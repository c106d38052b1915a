"""Runs one of our Ansible modules in this process, as Ansible would call it, and returns what it answers."""

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.module_utils.testing import patch_module_args

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def run_module(module_name: str, /, **arguments: Any) -> dict[str, Any]:
    """The module's answer."""
    shared = str(PLUGINS / "module_utils")
    if shared not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(shared)
    modules = str(PLUGINS / "modules")
    if modules not in sys.path:
        sys.path.append(modules)
    module = importlib.import_module(module_name)
    said = io.StringIO()
    with patch_module_args(arguments), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        module.main()
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer
