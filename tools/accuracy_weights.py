"""Accuracy of the weights: bytes a rank of every catalogue model beside the parameter sum of vLLM's own classes."""

from sizing.errors import UnknownFact
from sizing.model_facts import load_model_facts
from sizing.model_shape import ModelFacts
from sizing.weights import rank_weight_bytes
from tests.golden.oracle_tables import recorded_weights
from tools.accuracy_sections import Section, markdown_table
from tools.kv_oracle_models import WEIGHT_SIZES

HEADINGS = ("model", "config.json", *(f"TP {size}" for size in WEIGHT_SIZES), "largest difference")
CONFIDENCES = {
    "verified": "genuine, hash checked",
    "copy": "public copy, hash not checked",
    "inferred": "rebuilt, not genuine",
}

INTRODUCTION = """\
Bytes of one tensor-parallel rank as vLLM 0.32.0 builds the model class (H100, BF16 or the checkpoint's own FP8).
Models whose config.json is alike share a row. "refused" means that vLLM refuses the size, and sizing with it; buffers
such as rotary tables are not weights and not counted. Rows whose config.json is not a genuine copy say so: their
bytes are right for the file in the catalogue, which may differ from the published one."""


def weights_section() -> Section:
    """Every model of the catalogue."""
    rows, unbuilt, differences = [], [], []
    for models, by_size in recorded_weights():
        try:
            facts = load_model_facts(models[0])
        except UnknownFact as unknown:
            unbuilt.append((", ".join(models), _reason(str(unknown)), _why(by_size)))
            continue
        cells = [_cell(facts, size, by_size[size]) for size in WEIGHT_SIZES]
        worst = max((difference for _, difference in cells), default=0.0)
        differences.append(worst)
        confidences = dict.fromkeys(CONFIDENCES[load_model_facts(model).confidence] for model in models)
        rows.append((", ".join(models), "; ".join(confidences), *(text for text, _ in cells), f"{worst:.3%}"))
    summary = (
        f"{len(rows)} distinct configurations of the catalogue at TP {', '.join(map(str, WEIGHT_SIZES))}: "
        f"largest difference {max(differences):.3%}"
    )
    missing = markdown_table(("model", "sizing says", "the judge says"), unbuilt)
    text = f"{INTRODUCTION}\n\n{markdown_table(HEADINGS, rows)}\n\nNot sized:\n\n{missing}"
    return Section(title="Weights a rank", summary=summary, text=text)


def _cell(facts: ModelFacts, size: int, recorded: int | str) -> tuple[str, float]:
    if isinstance(recorded, str):
        return "refused", 0.0
    own = rank_weight_bytes(facts, shards=size)
    return f"{own:,}", abs(own - recorded) / recorded


def _reason(message: str) -> str:
    """The refusal without where the config.json came from."""
    start = max(message.find("architecture "), message.find("weights quantised"))
    return message[start:].partition("; ")[0]


def _why(by_size: dict[int, int | str]) -> str:
    return next((answer[:120] for answer in by_size.values() if isinstance(answer, str)), "it is built")
