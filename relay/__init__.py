"""One service between the gateway and each group of identical engines: no client sees an engine die."""

__version__ = "0.1.0"
