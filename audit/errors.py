"""What a person can act on; each is one line."""


class AuditError(Exception):
    """What was asked, what was found, what to change."""
