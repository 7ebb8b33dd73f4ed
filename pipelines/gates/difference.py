"""A difference as it was measured, and how sure that is: of few people little can be told, however many their videos."""

from dataclasses import dataclass

from pipelines.gates.result import Inputs, Missing

FIVE_PEOPLE, TEN_PEOPLE = 4, 9  # degrees of freedom: on fewer than five even a lost generator is not shown (of two, Student's t asks for 64 standard errors)
ONCE = "each person counted once"


@dataclass(frozen=True, slots=True)
class Difference:
    """What was measured, its standard error, and degrees of freedom: less than people, and 0 where they are one alone.

    `once`: the same with each person counted once, where some have far more videos than others. Then both are asked, each at half the level.
    """

    value: float
    se: float
    df: int
    once: "Difference | None" = None

    @classmethod
    def read(cls, seen: Inputs) -> "Difference":
        """The difference that `seen` holds. Raises Missing, also where a standard error is negative."""
        value, se, df = seen.number("difference"), seen.number("se"), seen.count("df")
        if se < 0:
            raise Missing(f"{seen.at}.se is negative")
        return cls(value, se, df, cls.read(seen.node("once")) if seen.flag("uneven") else None)

    def __neg__(self) -> "Difference":
        """A gain as a loss."""
        return Difference(-self.value, self.se, self.df, -self.once if self.once else None)

    def p_above(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the true value is at most `bound`; 1 where nothing can be said."""
        from model.paired import of_both

        return of_both(*(way.p_alone(bound) for way in self.ways()))

    def p_alone(self, bound: float) -> float:
        """The p-value of this one way to count."""
        from model.paired import p_greater

        return p_greater(self.value, self.se, self.df, bound)

    def ways(self) -> "list[Difference]":
        """By videos and, where some people have far more than others, by people."""
        return [self, self.once] if self.once else [self]

    def telling(self, bound: float) -> "Difference":
        """Of the ways to count the one that shows most beyond the bound."""
        return min(self.ways(), key=lambda way: (way.p_alone(bound), -way.value))

    def how(self, way: "Difference") -> str:
        """How a way of this counts, in words to follow others; '' where nothing else was asked."""
        return "" if not self.once else f", {ONCE if way is self.once else 'by videos'}"

    def detectable(self, bound: float, alpha: float) -> float:
        """The true value that is found at level `alpha` 4 times in 5."""
        from model.paired import detectable

        ways = self.ways()
        return min(detectable(way.se, way.df, bound, alpha / len(ways)) for way in ways)


def more_would_tell(wanted: int, n: int, df: int) -> bool:
    """Whether a number of videos reckoned by the normal distribution means anything: of few people it is too low, and may be one that is there already."""
    return wanted > n and df >= TEN_PEOPLE


def whose(df: int) -> str:
    """How many people so many degrees of freedom come to."""
    return "one person alone" if df < 1 else f"people who count as {df + 1}"
