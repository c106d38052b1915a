"""Suites: one question each. A suite is a function from a runner and its settings to a SuiteResult."""
