"""The starter model that comes with the code: it answers where there is no model of one's own yet."""

from pathlib import Path

STARTER = Path(__file__).resolve().parent / "starter"


def has_starter() -> bool:
    """Whether it is there; an image made for serving may leave it out."""
    return (STARTER / "card.json").is_file()
