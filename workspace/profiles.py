"""Profiles: one params.yaml for all, and small overlays that lay their differences over it, comments kept."""

import io
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from workspace.errors import SettingsError
from workspace.settings import PROFILES, parse_settings


def project_root() -> Path:
    """The folder that holds the project's own params.yaml and dvc.yaml."""
    return Path(__file__).resolve().parents[1]


def compose_params(profile: str) -> str:
    """The text of a workspace's params.yaml for `full`, `small` or `demo`; the same profile gives the same text.

    Raises SettingsError for an unknown profile, or when the composed settings are not valid.
    """
    from ruamel.yaml import YAML

    if profile not in PROFILES:
        raise SettingsError(f"There is no profile {profile!r}.", why=f"the profiles are {', '.join(PROFILES)}", next_step="Choose one of them with --profile.")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 160
    base = yaml.load((project_root() / "params.yaml").read_text(encoding="utf-8"))
    overlay_path = Path(__file__).parent / "profiles" / f"{profile}.yaml"
    if overlay_path.exists():
        _lay_over(base, YAML(typ="safe", pure=True).load(overlay_path.read_text(encoding="utf-8")), profile)
    text = io.StringIO()
    yaml.dump(base, text)
    composed = text.getvalue()
    parse_settings(YAML(typ="safe", pure=True).load(composed), where=f"profile {profile}")
    return composed


def _lay_over(base: MutableMapping[str, Any], overlay: MutableMapping[str, Any], profile: str, at: str = "") -> None:
    """Change values in place. A key that the base lacks is a mistake in the overlay, not a new setting."""
    for key, value in overlay.items():
        if key not in base:
            raise SettingsError(f"Profile {profile} cannot be used.", why=f"{at}{key} is not in params.yaml", next_step="Mend workspace/profiles/.")
        if isinstance(value, MutableMapping) and isinstance(base[key], MutableMapping):
            _lay_over(base[key], value, profile, f"{at}{key}.")
        else:
            base[key] = value
