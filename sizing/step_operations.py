"""Step operations: the arithmetic of attention, and what ranks send each other during one engine step.

scores and sum of values   2 x 2 x query heads x head_dim operations for each pair of tokens that see each other
causal prefill             of n new tokens after c old ones: n x c + n x (n + 1) / 2 pairs; at most n x window
gated delta net            4 x value heads x key_dim x value_dim for each token
all-reduce                 two a layer, hidden_size numbers for each token, 2 x (ranks - 1) / ranks of them over
                           the link of each rank
"""

from collections import defaultdict
from dataclasses import dataclass

from sizing.model_shape import AttentionLayer, GatedDeltaNetLayer, ModelFacts
from sizing.weights import Stage

OPERATIONS_PER_MULTIPLICATION = 2
REDUCES_PER_LAYER = 2


@dataclass(frozen=True, kw_only=True)
class AttentionWork:
    """Operations of one rank: for each pair of tokens in layers that see everything, in windows (tokens and operations
    a pair), and for each token in layers with a state."""

    operations_per_pair: float
    windows: tuple[tuple[int, float], ...]
    state_operations_per_token: float


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a rank sends: `bytes_per_token` in all all-reduces together, and how many of them a step has."""

    bytes_per_token: float
    reduce_count: int


def attention_work(model: ModelFacts, *, shards: int, stage: Stage) -> AttentionWork:
    """The arithmetic of attention on one rank."""
    full, states = 0.0, 0.0
    windows: dict[int, float] = defaultdict(float)
    for layer in model.layers[stage.first_layer : stage.end_layer]:
        if isinstance(layer, GatedDeltaNetLayer):
            states += 4.0 * layer.value_head_count / shards * layer.key_head_dim * layer.value_head_dim
        elif isinstance(layer, AttentionLayer):
            pair = 2.0 * OPERATIONS_PER_MULTIPLICATION * model.query_head_count / shards * layer.head_dim
            if layer.window_tokens is None:
                full += pair
            else:
                windows[layer.window_tokens] += pair
    return AttentionWork(
        operations_per_pair=full, windows=tuple(sorted(windows.items())), state_operations_per_token=states
    )


def traffic(model: ModelFacts, *, shards: int, stage: Stage, element_bytes: int) -> Traffic:
    """What one rank sends its tensor-parallel peers; nothing when it has none."""
    if shards == 1:
        return Traffic(bytes_per_token=0.0, reduce_count=0)
    count = REDUCES_PER_LAYER * (stage.end_layer - stage.first_layer)
    one = 2.0 * (shards - 1) / shards * model.hidden_size * element_bytes
    return Traffic(bytes_per_token=count * one, reduce_count=count)


def causal_pairs(new_tokens: int, old_tokens: int) -> float:
    """Pairs of tokens of which one sees the other, when `new_tokens` follow `old_tokens`."""
    return new_tokens * old_tokens + new_tokens * (new_tokens + 1) / 2
