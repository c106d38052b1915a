"""Load, latency and truth: what users of a site feel, measured honestly. Imports `sizing`; nothing there imports this."""
