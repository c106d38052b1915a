"""Units: integer arithmetic on quantities, and the one place where bytes become text for people.

Inside, memory is integer bytes. GiB exists only in what a person reads.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def ceil_div(numerator: int, denominator: int) -> int:
    """Quotient rounded up, for non-negative numerators and positive denominators."""
    return -(-numerator // denominator)


def round_up(quantity: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `quantity`."""
    return ceil_div(quantity, multiple) * multiple


def gib_text(quantity_bytes: int) -> str:
    """Bytes as a person reads them: two decimals in GiB, MiB below 0.1 GiB."""
    if abs(quantity_bytes) < GIB // 10:
        return f"{quantity_bytes / MIB:.1f} MiB"
    return f"{quantity_bytes / GIB:.2f} GiB"
