"""Linear: one matrix as one rank holds it, and what it costs in bytes.

Unquantised: every weight in the dtype of the model. FP8: one byte a weight and one float32 scale a block, or a matrix.
Experts are many equal matrices. Where a rank's part of an expert is no multiple of the block, vLLM stores scales for
finer blocks instead of refusing (fused_moe/oracle/fp8.py:288-325, 0.32.0).
"""

from dataclasses import dataclass
from math import gcd

from sizing.model_shape import WeightQuantization
from sizing.units import ceil_div

SCALE_BYTES = 4
FINEST_EXPERT_BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class Linear:
    """One matrix on one rank, or `copies` of them. `parts` are the checkpoint's names of the modules that it joins;
    nothing that has no parts is ever quantised."""

    rows: int
    columns: int
    parts: tuple[str, ...] = ()
    bias_elements: int = 0
    copies: int = 1
    expert_block: tuple[int, int] | None = None

    @property
    def elements(self) -> int:
        """Weights and biases."""
        return self.copies * (self.rows * self.columns + self.bias_elements)


def linear_bytes(linear: Linear, quantization: WeightQuantization | None, prefix: str, element_bytes: int) -> int:
    """Bytes of the matrix with its scales; `prefix` leads to its module in the checkpoint."""
    kept = not linear.parts or (
        quantization is not None and any(prefix + part in quantization.kept_modules for part in linear.parts)
    )
    if quantization is None or kept:
        return linear.elements * element_bytes
    rows, columns = linear.expert_block or quantization.block or (linear.rows, linear.columns)
    scales = ceil_div(linear.rows, rows) * ceil_div(linear.columns, columns)
    one = linear.rows * linear.columns + scales * SCALE_BYTES + linear.bias_elements * element_bytes
    return linear.copies * one


def expert_block(
    quantization: WeightQuantization | None, *, width: int, hidden_size: int, shards: int
) -> tuple[int, int] | None:
    """The block of an expert's scales on one rank whose part is `width` wide, None where there are no blocks."""
    if quantization is None or quantization.block is None:
        return None
    rows, columns = quantization.block
    if width % rows == 0 and (shards == 1 or width % columns == 0):
        return rows, columns
    finer = gcd(rows, columns, width, hidden_size)
    return (finer, finer) if finer >= FINEST_EXPERT_BLOCK else (rows, columns)
