"""What the lab says when it cannot go on: one line for the person who typed the command."""


class LabError(Exception):
    """An error the user can act on; its message is the whole line."""

    exit_code = 1


class CannotRunHere(LabError):
    """This machine or this user cannot run a lab at all."""

    exit_code = 2


class UsageError(LabError):
    """The command line asks for something that makes no sense."""

    exit_code = 2
