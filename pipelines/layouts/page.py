"""The table of docs/layouts.md, made from the data cards; a test holds the page against them.

`python -m pipelines.layouts.page` writes it into the page.
"""

from pathlib import Path

from pipelines.layouts import LAYOUTS
from pipelines.layouts.card import Card

PAGE = Path(__file__).resolve().parents[2] / "docs" / "layouts.md"
BEGIN, END = "<!-- cards -->", "<!-- end of cards -->"


def cards() -> dict[str, Card]:
    """The data card of each published layout, by the layout's name."""
    return {name: card for name, module in LAYOUTS.items() if isinstance(card := getattr(module, "CARD", None), Card)}


def cards_table() -> str:
    """One row a card, as Markdown."""
    lines = ["| `--layout` | data set | published counts | where they stand | terms of use | what to know |", "|---|---|---|---|---|---|"]
    for name, card in cards().items():
        counts = ", ".join(f"{number:,} {what}" for what, number in card.published.items()) or "none"
        lines.append(f"| `{name}` | {card.title} | {counts} | {card.where} | {card.terms} | {card.note} |")
    return "\n".join(lines)


def with_cards(page: str) -> str:
    """The page with its table as the cards are now."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{cards_table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_cards(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
