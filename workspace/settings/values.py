"""Kinds of values that many blocks have."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import Field

from workspace.blocks import Block

LONGEST_DAYS = 1_000_000  # what ends so much later still lies in Python's calendar, whose last year is 9999

AnyBlock = TypeVar("AnyBlock", bound=Block)
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Days = Annotated[int, Field(ge=0, le=LONGEST_DAYS)]
Hours = Annotated[int, Field(ge=1, le=LONGEST_DAYS * 24)]
Minutes = Annotated[int, Field(ge=1, le=LONGEST_DAYS * 24 * 60)]


def defaults(block: type[AnyBlock]) -> Callable[[], AnyBlock]:
    """Makes a block of nothing but its defaults: the value of a block that params.yaml may leave out."""
    return lambda: block.model_validate({})
