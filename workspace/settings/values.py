"""Kinds of values that many blocks have."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import Field

from workspace.blocks import Block

LONGEST_DAYS = 1_000_000  # what ends so much later still lies in Python's calendar, whose last year is 9999
LONGEST_SECONDS = 1_000_000_000  # 31 years; a thread of Python waits no longer than nine times that
MOST_MEMORY_BYTES = 1 << 50  # more than a machine has; a limit of the system is a number of 63 bits

AnyBlock = TypeVar("AnyBlock", bound=Block)
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
MemoryBytes = Annotated[int, Field(ge=1, le=MOST_MEMORY_BYTES)]
Days = Annotated[int, Field(ge=0, le=LONGEST_DAYS)]
Seconds = Annotated[int, Field(ge=1, le=LONGEST_SECONDS)]
Hours = Annotated[int, Field(ge=1, le=LONGEST_DAYS * 24)]
Minutes = Annotated[int, Field(ge=1, le=LONGEST_DAYS * 24 * 60)]


def defaults(block: type[AnyBlock]) -> Callable[[], AnyBlock]:
    """Makes a block of nothing but its defaults: the value of a block that params.yaml may leave out."""
    return lambda: block.model_validate({})
