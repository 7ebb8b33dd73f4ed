"""Tables as plain rows: most of what the stages decide, they decide row by row."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def rows_of(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table in order, one dict of column names a row."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
