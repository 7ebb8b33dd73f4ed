"""A difference as it was measured, and how sure that is: of few people little can be told, however many their videos."""

from dataclasses import dataclass

from pipelines.gates.result import Inputs

FIVE_PEOPLE, TEN_PEOPLE = 4, 9  # degrees of freedom: on fewer than five even a lost generator is not shown (of two, Student's t asks for 64 standard errors)


@dataclass(frozen=True, slots=True)
class Difference:
    """What was measured, its standard error, and degrees of freedom: less than people, and 0 where they are one alone."""

    value: float
    se: float
    df: int

    @classmethod
    def read(cls, seen: Inputs) -> "Difference":
        """The difference that `seen` holds. Raises Missing; whether the standard error can be one is for the gate to say."""
        return cls(seen.number("difference"), seen.number("se"), seen.count("df"))

    def __neg__(self) -> "Difference":
        """A gain as a loss."""
        return Difference(-self.value, self.se, self.df)

    def p_above(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the true value is at most `bound`; 1 where nothing can be said."""
        from model.paired import p_greater

        return p_greater(self.value, self.se, self.df, bound)


def more_would_tell(wanted: int, n: int, df: int) -> bool:
    """Whether a number of videos reckoned by the normal distribution means anything: of few people it is too low, and may be one that is there already."""
    return wanted > n and df >= TEN_PEOPLE


def whose(df: int) -> str:
    """How many people so many degrees of freedom come to."""
    return "one person alone" if df < 1 else f"people who count as {df + 1}"
