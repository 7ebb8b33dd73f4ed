"""The exceptions that a person can act on: what happened, why, what to do next."""

import copyreg
import re
from collections.abc import Sequence

FEW = 3  # names in a sentence
PASSWORDS = ((re.compile(r"(://[^/\s:@]*):[^/\s]*@"), r"\1:***@"), (re.compile(r"([?&]\w*password=)[^&\s]*"), r"\1***"))
# what is an address and nothing else is read as SQLAlchemy does: neither `/` nor `?` nor a blank ends a password
ALONE = ((re.compile(r"^([^:/]+://[^:/@]*):(?:[^?]*|[^@]*)@"), r"\1:***@"), (re.compile(r"([?&]\w*password=)[^&]*"), r"\1***"))


def without_passwords(text: str) -> str:
    """`text` with the password of every address in it as ***: up to the first `/` or blank, where an address may end. Of an address alone: shown_address."""
    return _hidden(PASSWORDS, text)


def shown_address(address: str) -> str:
    """The address as it may be told to anybody: with *** for its password, whatever signs that has."""
    return _hidden(ALONE, address)


def _hidden(patterns: Sequence[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, shown in patterns:
        text = pattern.sub(shown, text)
    return text


def first_few(names: Sequence[str]) -> str:
    """The first FEW names, for a sentence, and whether there are others."""
    return ", ".join(names[:FEW]) + (" ..." if len(names) > FEW else "")


def printable(text: str) -> str:
    """The text with everything escaped that moves a terminal's cursor, colours it or begins a line."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class VigilError(Exception):
    """Any failure a person can act on. Its text has three lines: what, why, next. No password of an address is in it.

    `retryable`: a second attempt may help, with nothing mended.
    """

    retryable: bool = False

    def __init__(self, what: str, *, why: str, next_step: str) -> None:
        what, why, next_step = map(without_passwords, (what, why, next_step))
        super().__init__(f"{what}\n  Why:  {why}\n  Next: {next_step}")
        self.what, self.why, self.next_step = what, why, next_step

    def __reduce__(self) -> tuple[object, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # from another process it comes as it is


def in_one_line(problem: Exception) -> str:
    """What happened and why; what to do next is for others to say."""
    return f"{problem.what} ({problem.why})" if isinstance(problem, VigilError) else str(problem)


class SettingsError(VigilError):
    """A settings file is missing, malformed or out of range."""


class WorkspaceError(VigilError):
    """A folder is not a workspace, or its state does not allow what was asked."""


class LeaseHeldError(WorkspaceError):
    """Another process is writing to this workspace; the message names it."""


class JournalError(WorkspaceError):
    """The journal's chain is broken, or a line of it cannot be read."""


class PromotionConflict(WorkspaceError):
    """The champion is no longer the one the challenger was judged against. Nothing was promoted."""


class DataError(VigilError):
    """Rows, labels or files that were handed in cannot be used."""


class TooLittleData(DataError):
    """What came in cannot teach a model: a class, or a side of the split, is empty. Other media mend it; another try does not."""


class MediaError(VigilError):
    """A media file cannot be read; `why` is the reason a result row shows."""


class ModelFileError(VigilError):
    """A model file is missing, changed since it was recorded, or of a foreign kind."""


class Diverged(ModelFileError):
    """A training whose gradient or answers are no longer finite."""


class RegistryUnavailable(VigilError):
    """The model registry did not answer. What was decided stands in the journal; showing it is made up for later."""


class Killed(VigilError):
    """A signal ended a process of this work, which goes on where it was."""

    retryable = True


class DatabaseSilent(VigilError):
    """The service's database was busy for longer than anybody waits, or cannot be reached; that says nothing about what was asked of it."""

    retryable = True


class DatabaseDamaged(VigilError):
    """The service's database answers, and what it holds cannot be read, or a table is gone. Trying again does not help."""


class StageFailed(VigilError):
    """A stage of the cycle ended with an error; finished stages are kept.

    `too_little`: the sentence of TooLittleData, where the data are the reason, else ''.
    """

    def __init__(self, what: str, *, why: str, next_step: str, retryable: bool = False, too_little: str = "") -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.retryable, self.too_little = retryable, too_little
