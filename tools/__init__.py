"""Tools of the repository: run by make, never installed on a host."""
