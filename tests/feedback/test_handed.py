"""The settings that a service hands to its processes."""

import os

import pytest

from feedback.handed import as_line, handed_settings
from workspace.files import parse_yaml
from workspace.profiles import compose_params
from workspace.settings import parse_settings


@pytest.mark.parametrize("profile", ["full", "small", "demo"])
def test_a_process_gets_the_settings_as_they_are_and_its_next_line_is_left_to_it(profile: str) -> None:
    settings = parse_settings(parse_yaml(compose_params(profile)))
    reading, writing = os.pipe()
    os.write(writing, as_line(settings) + b"next\n")
    os.close(writing)
    with open(reading, "rb") as rest:
        assert handed_settings(reading) == settings and rest.read() == b"next\n"
