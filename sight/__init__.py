"""Exporters of the appliance: GPUs over NVML, and what a gateway host's ledgers say about teams and models.

Hosts get one file, a zipapp of this package (tools/sight_zipapp.py): the standard library, nvidia-ml-py and the relay's
ledger reader. Nothing is installed with pip for it, so a bare host has its numbers before it has anything else.
"""
