"""Guardrails of the gateway: what is masked or refused in requests and answers, in a process of its own.

`python -m guard serve` looks at texts and says what it found where; the gateway's hook
(roles/gateway/files/guardrails.py) asks it over a local socket and masks or refuses. Nothing here imports LiteLLM, and
what the hook imports needs Python alone.
"""

__version__ = "0.1.0"
