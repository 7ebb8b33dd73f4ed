"""The settings that a service was started with, as its processes get them: by the first line on their stdin.

So all of them go by the same ones, whatever becomes of params.yaml meanwhile. Not by the command line: an address may hold a password,
and anybody on the machine reads the words of a process.
"""

import io

from workspace.settings import Settings


def as_line(settings: Settings) -> bytes:
    """The line to write first to the stdin of such a process."""
    return settings.model_dump_json(by_alias=True).encode() + b"\n"


def handed_settings(descriptor: int = 0) -> Settings:
    """What the service has written there. Nothing beyond the line is read: the rest is for who listens next."""
    return Settings.model_validate_json(io.FileIO(descriptor, closefd=False).readline())
