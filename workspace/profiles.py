"""Profiles and recipes: one params.yaml for all, and small overlays that lay their differences over it, comments kept.

A profile says how large (full, small, demo), a recipe how: the settings of a paper, or of a model that ships.
"""

import io
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from workspace.choices import PROFILES
from workspace.errors import SettingsError
from workspace.settings import parse_settings

RECIPES = Path(__file__).parent / "recipes"


def project_root() -> Path:
    """The folder that holds the project's own params.yaml and dvc.yaml."""
    return Path(__file__).resolve().parents[1]


def recipes() -> list[str]:
    """The names of the recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def compose_params(profile: str, recipe: str = "") -> str:
    """The text of a workspace's params.yaml for `full`, `small` or `demo`, with a recipe laid over it; the same names give the same text.

    Raises SettingsError for an unknown name, or when the composed settings are not valid.
    """
    from ruamel.yaml import YAML

    if profile not in PROFILES:
        raise SettingsError(f"There is no profile {profile!r}.", why=f"the profiles are {', '.join(PROFILES)}", next_step="Choose one of them with --profile.")
    if recipe and recipe not in recipes():
        raise SettingsError(f"There is no recipe {recipe!r}.", why=f"the recipes are {', '.join(recipes())}", next_step="Choose one of them with --recipe.")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 160
    base = yaml.load((project_root() / "params.yaml").read_text(encoding="utf-8"))
    for name, path in ((f"Profile {profile}", Path(__file__).parent / "profiles" / f"{profile}.yaml"), (f"Recipe {recipe}", RECIPES / f"{recipe}.yaml")):
        if path.exists():
            _lay_over(base, YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")), name)
    text = io.StringIO()
    yaml.dump(base, text)
    composed = text.getvalue()
    parse_settings(YAML(typ="safe", pure=True).load(composed), where=f"profile {profile}" + (f", recipe {recipe}" if recipe else ""))
    return composed


def _lay_over(base: MutableMapping[str, Any], overlay: MutableMapping[str, Any], name: str, at: str = "") -> None:
    """Change values in place. A key that the base lacks is a mistake in the overlay, not a new setting."""
    for key, value in overlay.items():
        if key not in base:
            raise SettingsError(f"{name} cannot be used.", why=f"{at}{key} is not in params.yaml", next_step="Mend its file in workspace/.")
        if isinstance(value, MutableMapping) and isinstance(base[key], MutableMapping):
            _lay_over(base[key], value, name, f"{at}{key}.")
        else:
            base[key] = value
