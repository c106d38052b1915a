"""Errors that a user can act on: each prints as one line and carries the exit code a script can trust.

A bug is none of these: it keeps its traceback.
"""


class SizingError(Exception):
    """Bad input: what was asked, what was found, what to change."""

    exit_code = 2


class UnknownFact(SizingError):
    """A model, GPU or option that the catalogue does not hold; the message says how to supply the facts."""


class DocumentError(SizingError):
    """A document (hardware, request, plan, observation) that is malformed or contradicts itself."""


class StaleDocument(SizingError):
    """A plan that no longer matches the hardware or the request it was made from."""


class DoesNotFit(SizingError):
    """The wish cannot be met by the hardware."""

    exit_code = 3


class EngineRefuses(SizingError):
    """vLLM would refuse this configuration; the message quotes its rule."""

    exit_code = 3


class NoDriver(SizingError):
    """The NVML library is absent: no NVIDIA driver is installed."""

    exit_code = 4


class DriverNotLoaded(SizingError):
    """The NVML library is there, the kernel driver does not answer."""

    exit_code = 5


class NoGpu(SizingError):
    """The driver answers and reports no GPU."""

    exit_code = 6


class SiteDiffers(SizingError):
    """The living site is not what the plan says."""

    exit_code = 1
