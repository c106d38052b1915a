"""Provider entries: a declared model at one endpoint in the words of LiteLLM's `model_list`.

Apart from the decisions about routes, because it follows LiteLLM's releases.
"""

from sizing.documents import Part
from sizing.providers import DeclaredModel, Deployment, Endpoint, provider_catalogue
from sizing.routing import ModelRouting

Value = str | int | float | bool | tuple[str, ...]
KEY_PREFIX = "PROVIDER_KEY_"  # no name that LiteLLM reads by itself, so that its pass-through routes find no key
# Bills are made from the prices in model_info; cost-based routing looks for them in litellm_params.
PASSED_BY_NAME = ("weight", "rpm", "tpm", "input_cost_per_token", "output_cost_per_token")
NO_KEY = "none"  # clients of OpenAI's protocol insist on one


class ProviderEntry(Part):
    """One entry of LiteLLM's model_list."""

    model_name: str
    litellm_params: dict[str, Value]
    model_info: dict[str, Value]

    @property
    def id(self) -> str:
        """The deployment's."""
        return str(self.model_info["id"])


def environment_name(key: str) -> str:
    """The gateway's environment variable for a key of the vault."""
    return KEY_PREFIX + key.upper()


def entries(
    model: DeclaredModel,
    there: tuple[tuple[Deployment, Endpoint], ...],
    *,
    routing: ModelRouting,
    access_groups: tuple[str, ...],
) -> tuple[ProviderEntry, ...]:
    """The entries of one model, one for each deployment that is switched on."""
    info: dict[str, Value] = {"mode": model.mode}
    if model.max_input_tokens is not None:
        info["max_input_tokens"] = model.max_input_tokens
    if model.max_output_tokens is not None:
        info["max_output_tokens"] = model.max_output_tokens
    if access_groups:
        info["access_groups"] = access_groups
    if any(deployment.tags for deployment, _ in there):
        info["enable_tag_filtering"] = True
    if routing.allowed_fails is not None:
        info["allowed_fails"] = routing.allowed_fails
    if routing.cooldown_seconds is not None:
        info["cooldown_time"] = routing.cooldown_seconds
    names = [endpoint.name for _, endpoint in there]
    return tuple(
        ProviderEntry(
            model_name=model.name,
            litellm_params=_parameters(deployment, endpoint),
            model_info={
                "id": f"{model.name}-{endpoint.name}" + (f"-{number}" if names.count(endpoint.name) > 1 else ""),
                **info,
                **_prices(deployment, endpoint),
            },
        )
        for number, (deployment, endpoint) in enumerate(there)
    )


def _parameters(deployment: Deployment, endpoint: Endpoint) -> dict[str, Value]:
    parameters: dict[str, Value] = {"model": f"{provider_catalogue().prefix(endpoint.kind)}/{deployment.model}"}
    if endpoint.api_base is not None:
        parameters["api_base"] = endpoint.api_base
    if not endpoint.is_cloud and "api_key" not in endpoint.all_secrets:
        parameters["api_key"] = NO_KEY
    parameters |= {name: f"os.environ/{environment_name(key)}" for name, key in endpoint.all_secrets.items()}
    parameters |= endpoint.settings
    parameters |= deployment.model_dump(include=set(PASSED_BY_NAME), exclude_none=True)
    if deployment.tags:
        parameters["tags"] = deployment.tags
    # Bills are made from model_info, cost-based routing looks here.
    return parameters | deployment.model_dump(
        include={"input_cost_per_token", "output_cost_per_token"}, exclude_none=True
    )


def _prices(deployment: Deployment, endpoint: Endpoint) -> dict[str, Value]:
    """As declared; a server of ours without a price costs nothing, a cloud what LiteLLM's list says."""
    given, made = deployment.input_cost_per_token, deployment.output_cost_per_token
    if given is None or made is None:
        return {} if endpoint.is_cloud else {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    return {
        "input_cost_per_token": given,
        "output_cost_per_token": made,
        # Without these two, prompt tokens that a server finds in its cache would cost nothing.
        "cache_read_input_token_cost": given,
        "cache_creation_input_token_cost": given,
    }
