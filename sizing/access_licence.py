"""Access and licences: what LiteLLM 1.109.1 does only with a licence, each with the free way to the same end.

Apart from the document, because it follows LiteLLM's releases: `LiteLLM_ManagementEndpoint_MetadataFields_Premium` and
the `premium_user` checks of its management endpoints.
"""

from collections.abc import Mapping

NEEDS_A_LICENCE: Mapping[str, str] = {
    "admins": "give the person role admin among users, or let the operators change access.yml for the team",
    "organization": "one team for each part of the organization",
    "organizations": "one team for each part of the organization",
    "projects": "one team for each project",
    "model_max_budget": "one key for each model, each with its own budget",
    "model_budgets": "one key for each model, each with its own budget",
    "guardrails": "declare the guardrail for the whole gateway; it then runs for every key",
    "disable_global_guardrails": "a second gateway without the guardrail",
    "policies": "declare guardrails for the whole gateway",
    "prompts": "keep prompts in the client",
    "tags": "tags of keys: they are kept in the key's metadata and counted by the cost reports",
    "tag_budgets": "one key for each purpose, each with its own budget",
    "logging": "declare the callback for the whole gateway",
    "secret_manager_settings": "Ansible Vault: key values lie in group_vars/all/vault_access.yml",
    "allowed_passthrough_routes": "the edge decides which paths clients reach (roles/edge)",
    "denied_passthrough_routes": "the edge decides which paths clients reach (roles/edge)",
    "allowed_ips": "a firewall, or the networks that the edge listens on (roles/edge)",
    "enforced_params": "refuse such requests in a callback of the gateway",
    "auto_rotate": "make keys SITE=... ROTATE=<alias> from cron, then playbooks/access.yml",
    "rotation_interval": "make keys SITE=... ROTATE=<alias> from cron, then playbooks/access.yml",
    "team_member_key_duration": "expires on each key",
    "get_spend_routes": "the cost reports read PostgreSQL",
}

# Names that LiteLLM reads as settings when they stand in the metadata of a key or team, and ours.
SETTINGS_IN_METADATA = frozenset(
    {
        "appliance",
        "model_rpm_limit",
        "model_tpm_limit",
        "model_itpm_limit",
        "model_otpm_limit",
        "default_estimated_output_tokens",
        "default_estimated_output_tokens_per_model",
        "mcp_rpm_limit",
        "tag_rpm_limit",
        "rpm_limit_type",
        "tpm_limit_type",
        "temp_budget_increase",
        "temp_budget_expiry",
        "allowed_vector_store_indexes",
        "enforced_batch_output_expires_after",
        "enforced_file_expires_after",
        "throttle_on_budget_exceeded",
        "enable_prompt_caching",
        "end_user_budget_id",
        "require_trace_id",
        "service_account_id",
        "soft_budget_alerting_emails",
        "team_member_budget_id",
        *NEEDS_A_LICENCE,
    }
)
