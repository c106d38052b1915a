"""Failover: sites whose parts can be broken by name, books that count tokens, and what streams felt of it."""
