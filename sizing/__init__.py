"""Sizing: derives vLLM's settings from hardware, models and a wish; the package behind `llm-size`."""
