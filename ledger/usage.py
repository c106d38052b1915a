"""Who used what in a period: by team, key, model, tag and day, from the bill (`appliance.usage`) and nothing else.

The lines are as fine as day, team, key, model and set of tags, so that they add up to the bill to the token; every
other view is made of them. The sum of the single requests is asked of PostgreSQL beside them, in the same snapshot, and
a report that does not agree with it is not made. A request counts on the day on which it ended, in the report's zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.book import Connection
from ledger.errors import LedgerError

NOBODY = "(nobody known)"
NO_TEAM = "(no team)"
NO_TAG = "(no tag)"
_LINES = """
SELECT (ended_at AT TIME ZONE %(zone)s)::date AS day, coalesce(team_alias, team_id, ''),
    coalesce(key_alias, left(key_hash, 10), ''), coalesce(model_group, model), tags, count(DISTINCT request),
    sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(cached_tokens)::bigint, sum(cost)
FROM appliance.usage WHERE ended_at >= %(begin)s AND ended_at < %(end)s
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
_SUM = """
SELECT coalesce(sum(prompt_tokens), 0)::bigint, coalesce(sum(completion_tokens), 0)::bigint, coalesce(sum(cost), 0)
FROM appliance.usage WHERE ended_at >= %(begin)s AND ended_at < %(end)s
"""


@dataclass(frozen=True, kw_only=True)
class Period:
    """Whole days, the last one within."""

    first: date
    last: date
    time_zone: str

    @classmethod
    def of_month(cls, text: str, *, time_zone: str, now: datetime) -> Period:
        """`2026-10`, `last` (the month before this one) or `this`."""
        today = now.astimezone(zone_of(time_zone)).date()
        first = today.replace(day=1)
        if text == "last":
            first = (first - timedelta(days=1)).replace(day=1)
        elif text != "this":
            try:
                first = datetime.strptime(text, "%Y-%m").date().replace(day=1)
            except ValueError:
                raise LedgerError(f"--month is {text!r}; give it like 2026-10, or this, or last") from None
        after = (first + timedelta(days=32)).replace(day=1)
        return cls(first=first, last=after - timedelta(days=1), time_zone=time_zone)

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """From the first to before the second."""
        zone = zone_of(self.time_zone)
        after = self.last + timedelta(days=1)
        return (
            datetime(self.first.year, self.first.month, self.first.day, tzinfo=zone),
            datetime(after.year, after.month, after.day, tzinfo=zone),
        )

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    @property
    def name(self) -> str:
        """`2026-10` of a whole month."""
        whole = self.first.day == 1 and (self.last + timedelta(days=1)).day == 1
        same = (self.first.year, self.first.month) == (self.last.year, self.last.month)
        return f"{self.first:%Y-%m}" if whole and same else f"{self.first:%Y-%m-%d}--{self.last:%Y-%m-%d}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one key used of one model on one day under one set of tags."""

    day: date
    team: str
    key: str
    model: str
    tags: tuple[str, ...]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: Decimal


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Of some lines."""

    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: Decimal

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A period. Sums by tag overlap where a request has several tags; all others add up to the total."""

    period: Period
    currency: str
    made_at: datetime
    lines: tuple[Line, ...]
    total: Sum
    by_team: tuple[Sum, ...]
    by_key: tuple[Sum, ...]
    by_model: tuple[Sum, ...]
    by_tag: tuple[Sum, ...]
    by_day: tuple[Sum, ...]


def zone_of(name: str) -> ZoneInfo:
    """Raises LedgerError for a zone that nobody knows."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise LedgerError(f"time zone {name} is not known; give it like UTC or Asia/Seoul") from None


def usage_of(connection: Connection, period: Period, *, currency: str, now: datetime) -> Usage:
    """The report; raises LedgerError where its lines do not add up to the requests."""
    begin, end = period.moments
    places = {"zone": period.time_zone, "begin": begin, "end": end}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        lines = tuple(_line(row) for row in connection.execute(_LINES, places).fetchall())
        row = connection.execute(_SUM, places).fetchone()
    total = _sum("total", lines)
    if row is None or (total.prompt_tokens, total.completion_tokens, total.cost) != tuple(row):
        raise LedgerError(f"the lines of {period.name} add up to {total}, the requests to {row}; no report is made")
    by_day = {one.name: one for one in _sums(lines, lambda line: [line.day.isoformat()])}
    return Usage(
        period=period,
        currency=currency,
        made_at=now,
        lines=lines,
        total=total,
        by_team=_sums(lines, lambda line: [line.team or (NO_TEAM if line.key else NOBODY)]),
        by_key=_sums(lines, lambda line: [line.key or NOBODY]),
        by_model=_sums(lines, lambda line: [line.model]),
        by_tag=_sums(lines, lambda line: line.tags or (NO_TAG,)),
        by_day=tuple(by_day.get(day.isoformat()) or _sum(day.isoformat(), ()) for day in period.days),
    )


def _line(row: tuple[Any, ...]) -> Line:
    day, team, key, model, tags, requests, prompt, completion, cached, cost = row
    return Line(
        day=day,
        team=team,
        key=key,
        model=model,
        tags=tuple(sorted(str(tag) for tag in tags)),
        requests=requests,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cost=cost,
    )


def _sums(lines: Iterable[Line], names_of: Callable[[Line], Sequence[str]]) -> tuple[Sum, ...]:
    """The dearest first."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        for name in names_of(line):
            groups.setdefault(name, []).append(line)
    found = [_sum(name, mine) for name, mine in groups.items()]
    return tuple(sorted(found, key=lambda one: (-one.cost, -one.tokens, one.name)))


def _sum(name: str, lines: Sequence[Line]) -> Sum:
    return Sum(
        name=name,
        requests=sum(line.requests for line in lines),
        prompt_tokens=sum(line.prompt_tokens for line in lines),
        completion_tokens=sum(line.completion_tokens for line in lines),
        cached_tokens=sum(line.cached_tokens for line in lines),
        cost=sum((line.cost for line in lines), Decimal(0)),
    )
