"""Sizing against the living vLLM wheel."""
