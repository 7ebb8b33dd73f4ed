"""What a gate says, how gates combine, and the strict reader through which they see their inputs.

Three states: a gate that lacks a number is undecided, never a pass. `Inputs` raises `Missing` for every value that is
absent, None, NaN, infinite or of the wrong kind, so no gate can read a hole as a zero.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from workspace.settings import GateSettings

ROUNDING = 1e-9  # a part of so many is told by a float: what lies on a bound is not beyond it, and 15 of 22 are 15


class GateVerdict(StrEnum):
    """What one gate, or all of them together, say."""

    PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One check: the value, its bound, and the sentence a reviewer can repeat."""

    gate: str
    verdict: GateVerdict
    reason: str
    measured: float | None = None
    limit: float | None = None
    production_limit: float | None = None
    n: int | None = None
    smallest_n: int | None = None
    rule: str = ""  # "at least" or "at most", when there is a limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """All results and what follows from them."""

    verdict: GateVerdict
    results: tuple[GateResult, ...]

    def against(self) -> list[GateResult]:
        """The results that stand against promotion; failures first."""
        order = {GateVerdict.FAIL: 0, GateVerdict.UNDECIDED: 1}
        return sorted((result for result in self.results if result.verdict in order), key=lambda result: order[result.verdict])

    def reasons(self) -> list[str]:
        """The sentences that stand against promotion; failures first."""
        return [f"{result.gate}: {result.reason}" for result in self.against()]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"verdict": str(self.verdict), "reasons": self.reasons(), "results": [{**asdict(r), "verdict": str(r.verdict)} for r in self.results]}


def decide(results: Sequence[GateResult]) -> GateVerdict:
    """FAIL beats UNDECIDED beats PASS; no gates at all is UNDECIDED, never PASS."""
    seen = {result.verdict for result in results} or {GateVerdict.UNDECIDED}
    return next(verdict for verdict in (GateVerdict.FAIL, GateVerdict.UNDECIDED, GateVerdict.PASS) if verdict in seen)


class Missing(Exception):
    """An input of a gate is absent or no proper value; the text says which."""


@dataclass(frozen=True)
class Inputs:
    """Read-only view of a tree of measurements that refuses holes. Paths are written `a.b.c`."""

    value: Any
    at: str = ""

    def node(self, path: str) -> "Inputs":
        """The subtree at `path`. Raises Missing."""
        value, at = self.value, self.at
        for key in path.split("."):
            at = f"{at}.{key}" if at else key
            if not isinstance(value, Mapping) or value.get(key) is None:
                raise Missing(f"{at} is missing")
            value = value[key]
        return Inputs(value, at)

    def number(self, path: str) -> float:
        """A finite number. Raises Missing."""
        found = self.node(path)
        if isinstance(found.value, bool) or not isinstance(found.value, int | float) or not math.isfinite(found.value):
            raise Missing(f"{found.at} is not a number")
        return float(found.value)

    def count(self, path: str) -> int:
        """A whole number, zero or more. Raises Missing."""
        number = self.number(path)
        if number < 0 or number != int(number):
            raise Missing(f"{self.at}.{path} is not a count")
        return int(number)

    def text(self, path: str) -> str:
        """A string, perhaps empty. Raises Missing."""
        found = self.node(path)
        if not isinstance(found.value, str):
            raise Missing(f"{found.at} is not text")
        return found.value

    def flag(self, path: str) -> bool:
        """True or False, nothing that merely looks like it. Raises Missing."""
        found = self.node(path)
        if not isinstance(found.value, bool):
            raise Missing(f"{found.at} is neither true nor false")
        return found.value

    def rows(self, path: str) -> "list[Inputs]":
        """The entries of the table `{count, rows}` at `path`. Raises Missing when the count does not match: a lost row is a hole too."""
        table = self.node(path)
        rows = table.node("rows").value
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise Missing(f"{table.at}.rows is not a list")
        if table.count("count") != len(rows):
            raise Missing(f"{table.at} announces {table.count('count')} rows and holds {len(rows)}")
        return [Inputs(row, f"{table.at}.rows[{number}]") for number, row in enumerate(rows)]

    def items(self, path: str) -> "list[Inputs]":
        """The entries of the list at `path`. Raises Missing."""
        found = self.node(path)
        if not isinstance(found.value, Sequence) or isinstance(found.value, str):
            raise Missing(f"{found.at} is not a list")
        return [Inputs(item, f"{found.at}[{number}]") for number, item in enumerate(found.value)]


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds in force and, beside them, the production ones."""

    here: GateSettings
    production: GateSettings

    def bound(self, setting: str) -> tuple[float, float]:
        """The bound of that name: in force, and the production one."""
        return float(getattr(self.here, setting)), float(getattr(self.production, setting))

    def check(self, gate: str, what: str, measured: float, setting: str, n: int, smallest_n: int, units: str = "videos") -> GateResult:
        """Hold `measured` against the setting of that name (`min_...` or `max_...`/`margin`); too few samples are undecided."""
        at_least = setting.startswith("min_")
        limit, production = self.bound(setting)
        verdict, reason = _weigh(what, measured, limit, at_least, n, smallest_n, units)
        return GateResult(gate, verdict, reason, measured, limit, production, n, smallest_n, "at least" if at_least else "at most")


def _weigh(what: str, measured: float, limit: float, at_least: bool, n: int, smallest_n: int, units: str) -> tuple[GateVerdict, str]:
    value, bound = apart(measured, limit, _read, 4)
    is_, asked = f"is {value}", f"{'at least' if at_least else 'at most'} {bound} is asked"
    if n < smallest_n:
        return (
            GateVerdict.UNDECIDED,
            f"Undecided: {what} {is_} on {n} {units}; {smallest_n - n} more {'is' if smallest_n - n == 1 else 'are'} needed to decide ({smallest_n}).",
        )
    start = what[0].upper() + what[1:]
    if measured >= limit - ROUNDING if at_least else measured <= limit + ROUNDING:
        return GateVerdict.PASS, f"{start} {is_}, {asked}."
    return GateVerdict.FAIL, f"{start} {is_}, but {asked}."


def nobody(gate: str, units: str, smallest_n: int) -> GateResult:
    """The one result of a gate that has none of these to judge: nothing was measured, and so many would decide."""
    return GateResult(gate, GateVerdict.UNDECIDED, f"Undecided: there are no {units} to judge; {smallest_n} are needed.", n=0, smallest_n=smallest_n)


def apart(value: float, bound: float, read: Callable[[float, int], str], digits: int) -> tuple[str, str]:
    """Both as `read` writes them with so many digits, and with more where they would look alike and are not: `0.032, but at most 0.032` tells nobody why."""
    found = read(value, digits), read(bound, digits)
    if found[0] != found[1] or abs(value - bound) <= ROUNDING or digits > 9:
        return found
    return apart(value, bound, read, digits + 1)


def _read(number: float, digits: int) -> str:
    """A number as a sentence carries it."""
    return f"{number:,.{digits - 4}f}" if abs(number) >= 1000 else f"{number:.{digits}g}"


Results = Iterator[GateResult]
