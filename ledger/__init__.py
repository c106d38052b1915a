"""The bill: what relays and gateways wrote down becomes rows in PostgreSQL, each exactly once."""
