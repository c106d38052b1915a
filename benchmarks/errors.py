"""Errors of the load generator, in the tree that the command line turns into one line and an exit code."""

from sizing.errors import SizingError


class BadLoad(SizingError):
    """A load that cannot be carried out as asked."""


class InvalidRun(SizingError):
    """The generator could not keep its promise: the numbers of this run say nothing about the server."""

    exit_code = 7


class FailedRun(SizingError):
    """The run is valid and the server failed requests or missed an objective."""

    exit_code = 1


class BrokenBundle(SizingError):
    """An acceptance bundle whose signature or files do not hold."""

    exit_code = 1
