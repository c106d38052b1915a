"""What can go wrong with a guardrail, in one line each."""


class GuardError(Exception):
    """A rule that cannot be used as it is declared; the message is the one line to print."""


class GuardUnavailable(Exception):
    """A guardrail that could not look in time. The message says why and never quotes a text."""
