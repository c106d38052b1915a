"""Fault engine: vLLM's HTTP surface with a computable model behind it, and faults on demand.

Standard library only, so that it runs with the Python of any host.
"""
