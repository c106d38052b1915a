"""Listed models: declared models as the page for people names them, beside the site's own."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from sizing.documents import Part
from sizing.providers import DeclaredModel, Deployment, Endpoint


class ListedModel(Part):
    """One row of the page. Where several endpoints serve a model, the dearest of them."""

    name: str
    mode: Literal["chat", "embedding"]
    max_input_tokens: int | None
    max_output_tokens: int | None
    input_cost_per_token: float | None = Field(description="null: the price of the provider's own list")
    output_cost_per_token: float | None
    inside: bool = Field(description="false: requests for it leave the premises, or may")


def listed_models(
    served: Mapping[DeclaredModel, tuple[tuple[Deployment, Endpoint], ...]],
) -> tuple[ListedModel, ...]:
    """Every declared model that is switched on, in the order of the document."""
    return tuple(
        ListedModel(
            name=model.name,
            mode=model.mode,
            max_input_tokens=model.max_input_tokens,
            max_output_tokens=model.max_output_tokens,
            input_cost_per_token=_dearest([(one.input_cost_per_token, endpoint) for one, endpoint in there]),
            output_cost_per_token=_dearest([(one.output_cost_per_token, endpoint) for one, endpoint in there]),
            inside=all(endpoint.inside for _, endpoint in there),
        )
        for model, there in served.items()
    )


def _dearest(prices: list[tuple[float | None, Endpoint]]) -> float | None:
    """A server of ours without a price costs nothing; a cloud without one, what its own list says."""
    if any(price is None and endpoint.is_cloud for price, endpoint in prices):
        return None
    return max(price or 0.0 for price, _ in prices)
