"""Acceptance: the document that a customer signs. Agreed before the run, measured in it, judged without rounding up.

The checklist always has its eight items in this order. What is not built or not switched on is `not available`, and
that never passes: a site is accepted only if every suite and every item passed.
"""

import math
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from benchmarks.result import SuiteResult
from sizing.acceptance_criteria import AcceptanceCriteria
from sizing.documents import Document, Part

LATE_ADVICE = (
    "Not the site but the machine that sent the load was too slow to send it as promised, so those numbers are not "
    "judged. Run again from a machine with idle cores that does nothing else, with more load processes (--processes N) "
    "or from more load hosts."
)

ItemStatus = Literal["passed", "failed", "not available"]
CHECKLIST: Mapping[str, str] = {
    "single_endpoint": "one endpoint serves all models",
    "routing": "requests are routed as declared",
    "fallback": "a fallback is invisible to users",
    "cost_accounting": "costs are accounted exactly to the token",
    "budget_limit": "a budget limit is enforced",
    "audit_trail": "the audit trail is complete",
    "engines_behind_gateway": "on-prem engines are reached through the gateway",
    "added_latency": "the added latency lies within the agreed bound",
}


class ChecklistItem(Part):
    """One item of the pilot checklist."""

    item: str
    status: ItemStatus
    evidence: str = Field(description="what was seen, or what is missing")

    @property
    def title(self) -> str:
        """The item in words."""
        return CHECKLIST[self.item]


class Prediction(Part):
    """A number that the plan promised, beside the same number measured."""

    subject: str
    name: str
    unit: str
    predicted: float
    predicted_low: float | None = None
    predicted_high: float | None = None
    measured: float | None
    exact: bool = Field(default=False, description="must be equal, not only within the interval")
    binding: bool = Field(
        default=True,
        description="a miss stands against the site; a forecast of speed may miss, the agreed objective judges speed",
    )
    note: str = Field(default="", description="what it rests on")

    @property
    def holds(self) -> bool | None:
        """Whether the prediction held; None = not measured, or no interval was promised."""
        if self.measured is None:
            return None
        if self.exact:
            return self.measured == self.predicted
        if self.predicted_low is None and self.predicted_high is None:
            return None
        low = -math.inf if self.predicted_low is None else self.predicted_low
        high = math.inf if self.predicted_high is None else self.predicted_high
        return low <= self.measured <= high


class Machine(Part):
    """A host that took part."""

    name: str
    role: str
    description: str


class Verification(Part):
    """What `verify` said just before."""

    passed: bool
    checks_count: int
    failed: tuple[str, ...] = ()


class Acceptance(Document):
    """One acceptance run of one site."""

    site: str
    accepted_at: str = Field(description="UTC, ISO 8601")
    plan_digest: str
    request_digest: str
    criteria_source: str = Field(description="where the success criteria were agreed, and their digest at that time")
    criteria: AcceptanceCriteria = AcceptanceCriteria()
    gateway_url: str = ""
    quick: bool = Field(default=False, description="shorter than agreed: shows that everything works, accepts nothing")
    versions: dict[str, str]
    machines: tuple[Machine, ...] = ()
    verification: Verification
    predictions: tuple[Prediction, ...] = ()
    suites: tuple[SuiteResult, ...]
    checklist: tuple[ChecklistItem, ...]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _checklist_is_whole(self) -> Self:
        given = [entry.item for entry in self.checklist]
        if given != list(CHECKLIST):
            raise ValueError(f"the checklist must hold exactly {', '.join(CHECKLIST)}, in this order; found {given}")
        return self

    @property
    def objections(self) -> list[str]:
        """Why the site is not accepted; empty = it is."""
        found = [] if self.verification.passed else [f"verification failed: {'; '.join(self.verification.failed)}"]
        found += ["the run was shorter than agreed (--quick)"] if self.quick else []
        found += [
            f"suite {_title(suite)}: {suite.verdict}"
            for suite in self.suites
            if suite.verdict not in {"passed", "invalid"}
        ]
        late = any(suite.suite == "gateway_overhead" and suite.verdict == "invalid" for suite in self.suites)
        found += [
            f"{item.title}: {item.status}"
            for item in self.checklist
            if item.status != "passed" and not (late and item.item == "added_latency")
        ]
        found += [
            f"{prediction.subject}: {prediction.name} predicted {prediction.predicted:g}, "
            f"measured {prediction.measured:g}"
            for prediction in self.predictions
            if prediction.binding and prediction.holds is False and prediction.measured is not None
        ]
        found += [] if self.suites else ["no suite ran"]
        return [*found, *self.inconclusive]

    @property
    def inconclusive(self) -> list[str]:
        """The suites that say nothing about the site, because our own load generator was late, each with the first
        reason."""
        return [
            f"suite {_title(suite)} says nothing about the site, our own load generator was late: "
            f"{suite.objections[0] if suite.objections else 'no reason given'}"
            for suite in self.suites
            if suite.verdict == "invalid"
        ]

    @property
    def invalid(self) -> bool:
        """Whether a suite says nothing about the site, because the client was overloaded."""
        return bool(self.inconclusive)

    @property
    def outcome(self) -> str:
        """The verdict in words."""
        if self.accepted:
            return "accepted"
        return "not accepted" if len(self.objections) > len(self.inconclusive) else "not judged"

    @property
    def accepted(self) -> bool:
        """Whether the site is accepted."""
        return not self.objections


def _title(suite: SuiteResult) -> str:
    return suite.suite.replace("_", " ") + (f" on {suite.subject}" if suite.subject else "")


def checklist(seen: Mapping[str, tuple[ItemStatus, str]]) -> tuple[ChecklistItem, ...]:
    """All eight items; those that nothing was seen of are `not available`."""
    unknown = set(seen) - set(CHECKLIST)
    if unknown:
        raise KeyError(f"no such checklist items: {', '.join(sorted(unknown))}")
    missing: tuple[ItemStatus, str] = ("not available", "this site has no such feature switched on")
    return tuple(
        ChecklistItem(item=item, status=status, evidence=evidence)
        for item in CHECKLIST
        for status, evidence in [seen.get(item, missing)]
    )
