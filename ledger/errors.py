"""What a person can act on; each is one line."""


class LedgerError(Exception):
    """What was asked, what was found, what to change."""


class DatabaseAway(LedgerError):
    """PostgreSQL does not answer at present. The segments keep everything until it does."""
