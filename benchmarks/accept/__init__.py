"""Acceptance of a living site: agreed suites against it, evidence from its hosts, one signed bundle."""
