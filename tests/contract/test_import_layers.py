"""Arrows point one way: documents know no arithmetic, arithmetic no decisions, and nothing knows the CLI."""

import ast
from pathlib import Path

SIZING = Path(__file__).resolve().parents[2] / "sizing"
LAYERS = (
    {"units", "errors", "plan_diff", "access_licence"},
    {"documents", "quantiles", "arrivals", "trace"},
    {"served", "costs"},
    {"acceptance_criteria", "catalogue"},
    {
        "access",
        "alerts",
        "audit",
        "hardware",
        "request",
        "report",
        "demand",
        "providers",
        "routing",
        "tracing",
        "fallbacks",
        "model_store",
        "hub",
        "safetensors_header",
        "model_config",
    },
    {"caching", "guardrails"},
    {"calibration", "start_up_log", "relays", "wish", "serving"},
    {"speed_reports"},
    {"plan", "measure_gpus", "provider_entries", "listed_models"},
    {"gateway_routes"},
    {"measure"},
    {"device", "model_shape", "observation"},
    {"layer_reading", "tower_reading", "linear", "tower_weights", "overhead_table"},
    {"model_reading", "layer_weights", "profile_run"},
    {"model_facts", "kv_groups"},
    {"engine_defaults"},
    {"weights", "overhead"},
    {"kv_cache", "splitting", "site_overhead"},
    {"constraints"},
    {"engine_settings", "step_bytes", "step_operations"},
    {"efficiency"},
    {"stage_time"},
    {"speed"},
    {"closed_loop", "step_seconds", "bounds"},
    {"memory_budget", "answer"},
    {"estimate"},
    {"islands", "version_differences"},
    {"prospect", "site_wish"},
    {"reasons", "vllm_options"},
    {"loaded"},
    {"candidates"},
    {"prices"},
    {"gateway_load"},
    {"changes", "page_figures", "page_template", "buy", "feel"},
    {"feel_figures"},
    {"placement", "monthly"},
    {"cost"},
    {"site_cost"},
    {"replicas", "site_speed"},
    {"site"},
    {"forecast"},
    {"verdicts"},
    {"judge_edges", "judge_engines", "judge_models", "judge_relays", "judge_spend"},
    {"judge"},
    {"report_summary"},
    {"recommend", "recommend_site", "probe", "fetch", "explain", "report_page", "schema", "calibrate", "accuracy"},
    {"calibrate_speed"},
    {"recommend_page", "cost_page"},
    {"verify"},
)


def test_every_import_points_to_a_lower_layer() -> None:
    level = {name: number for number, names in enumerate(LAYERS) for name in names}

    upward = [
        f"{module} imports {imported}"
        for path in SIZING.glob("*.py")
        for module in [path.stem]
        if module in level
        for imported in _imports_of(path)
        if imported in level and level[imported] > level[module]
    ]

    assert [] == upward


def test_every_module_has_its_place_in_the_layers() -> None:
    known = set().union(*LAYERS) | {"__init__", "__main__"}

    unplaced = {path.stem for path in SIZING.glob("*.py") if not path.stem.startswith("cli")} - known

    assert set() == unplaced


def test_nothing_below_the_command_line_imports_it() -> None:
    below = [path for path in SIZING.glob("*.py") if not path.stem.startswith("cli")]

    importers = [path.stem for path in below if any(name.startswith("cli") for name in _imports_of(path))]

    assert importers in ([], ["__main__"])


def test_the_relay_stands_alone() -> None:
    # Hosts get the directory `relay` and its few packages, and nothing else of this repository.
    relay = SIZING.parent / "relay"

    strangers = {
        f"{path.name} imports {name}"
        for path in relay.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in getattr(node, "names", ()) if isinstance(node, ast.Import)]
        )
        if name.split(".")[0] in {"sizing", "benchmarks", "tools", "tests"}
    }

    assert set() == strangers


def _imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sizing."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "sizing":
            found.update(alias.name for alias in node.names)
    return found
