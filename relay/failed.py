"""Failed: why a client gets an error, in its words and in the ledger's."""


class Failed(Exception):
    """The client gets an error."""

    def __init__(self, status: int, message: str, kind: str, *, outcome: str, body: bytes = b"") -> None:
        super().__init__(message)
        self.status, self.kind, self.outcome, self.body = status, kind, outcome, body
        self.headers: dict[str, str] = {}
