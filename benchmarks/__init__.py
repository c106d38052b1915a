"""Load, latency and truth: what users of a site feel. Imports `sizing`; nothing there imports this."""
