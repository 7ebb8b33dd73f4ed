"""What settings are made of: frozen blocks whose rules are named, so that one pass finds every mistake.

A plain validator stays silent about an impossible combination as long as another key of its block has a wrong type.
Here each rule says which keys it needs; it is checked whenever those are sound, whatever else is wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

Location = tuple[int | str, ...]


class Rule(NamedTuple):
    """A combination of values that must hold. `says` may name the keys in braces."""

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    says: str


class Block(BaseModel):
    """A frozen block of settings that refuses unknown keys, wrong types, numbers that are not finite and combinations that its RULES forbid."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        broken = list(_broken(type(self), {name: getattr(self, name) for name in type(self).model_fields}))
        if broken:
            raise ValueError("; ".join(broken))
        return self


def _worded(mistake: Mapping[str, Any]) -> str:
    """One of pydantic's mistakes in words of ours."""
    return "there is no such key" if mistake["type"] == "extra_forbidden" else str(mistake["msg"]).removeprefix("Value error, ")


def mistakes_of(problem: ValidationError) -> list[str]:
    """One line a mistake that pydantic found, `key.path: what is wrong`."""
    return [_line(mistake["loc"], _worded(mistake)) for mistake in problem.errors()]


def every_mistake(block: type[Block], raw: Any, problem: ValidationError) -> list[str]:
    """One line a mistake, `key.path: what is wrong`: what pydantic found, and the broken rules that it did not come to."""
    found: list[tuple[Location, str]] = [(mistake["loc"], _worded(mistake)) for mistake in problem.errors()]
    found += list(_unseen(block, raw, (), [location for location, _ in found]))
    return [_line(location, text) for location, text in found]


def _line(location: Location, text: str) -> str:
    return f"{'.'.join(map(str, location)) or 'settings'}: {text}"


def _unseen(block: type[Block], raw: Any, at: Location, wrong: Sequence[Location]) -> Iterator[tuple[Location, str]]:
    """Broken rules of `block` and the blocks in it, where a mistake kept pydantic from checking them."""
    if not isinstance(raw, Mapping):
        return
    names = {str(field.alias or name): name for name, field in block.model_fields.items()}
    for key, name in names.items():
        inner = block.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, Block):
            yield from _unseen(inner, raw.get(key), (*at, key), wrong)
    faulty = {str(location[len(at)]) for location in wrong if location[: len(at)] == at and len(location) > len(at)}
    if not faulty:
        return  # nothing kept pydantic from checking this block's rules
    sound = {}
    for key, name in names.items():
        field = block.model_fields[name]
        if key in faulty or (key not in raw and field.is_required()):
            continue
        kind: Any = field.annotation
        sound[name] = TypeAdapter(kind).validate_python(raw[key]) if key in raw else field.get_default(call_default_factory=True)
    yield from ((at, text) for text in _broken(block, sound))


def _broken(block: type[Block], values: Mapping[str, Any]) -> Iterator[str]:
    for rule in block.RULES:
        if all(key in values for key in rule.keys) and not rule.holds(*(values[key] for key in rule.keys)):
            yield rule.says.format(**{key: values[key] for key in rule.keys})
