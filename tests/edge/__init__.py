"""The edge: HAProxy as the role configures it, on loopback."""
