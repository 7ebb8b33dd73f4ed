"""Small parts that every page is made of: plain HTML elements, so that browser and screen reader know them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from feedback.console.theme import icon
from feedback.wording import VERDICT_WORDS
from model.aggregate import short_of_certainty

WORDS = {**VERDICT_WORDS, "unsure": "Unsure", "": "Waiting"}
Cell = str | int | float | Callable[[], Any] | None


class Tag(TextElement):
    """A plain HTML element with text. Attributes are given as keywords: `aria_label` is aria-label, `for_` is for, None is left out."""

    def __init__(self, name: str, text: str = "", classes: str = "", /, **attributes: Any) -> None:
        super().__init__(tag=name, text=text)
        if classes:
            self.classes(classes)
        for key, value in attributes.items():
            if value is not None and value is not False:
                self.props[key.rstrip("_").replace("_", "-")] = "" if value is True else value


def tag(name: str, /, text: str = "", classes: str = "", **attributes: Any) -> Tag:
    """A plain HTML element."""
    return Tag(name, text, classes, **attributes)


def drawing(svg: str, classes: str = "") -> Element:
    """Text of ours as HTML: an icon or a figure. Never text of a person."""
    return ui.html(svg, sanitize=False, tag="span").classes(f"drawing {classes}")


def address(path: str, query: Mapping[str, Any]) -> str:
    """The path with a query, or alone where there is none."""
    return path + (f"?{urlencode(query)}" if query else "")


def link(text: str, to: str, classes: str = "", **more: Any) -> Tag:
    """A link."""
    return tag("a", text, classes, href=to, **more)


def button(text: str, do: Callable[..., Any] | None = None, classes: str = "", **more: Any) -> Tag:
    """A button. Without `do` it sends its form."""
    made = tag("button", text, f"button {classes}", type="button" if do else "submit", **more)
    if do is not None:
        made.on("click", lambda _: do())
    return made


def badge(verdict: str, p_fake: float | None = None, word: str = "") -> Tag:
    """A verdict as icon, word and percent on its colour. `p_fake` is said as what it is: the estimate that this is fake."""
    kind = verdict or "waiting"
    with tag("span", "", f"badge badge-{kind}") as made:
        drawing(icon(kind))
        tag("span", word or WORDS.get(verdict, verdict.capitalize()))
        if p_fake is not None:
            tag("span", f"{estimate(p_fake)} fake", "badge-figure", title="Estimated probability that this is fake")
    return made


def said_of(detection: dict[str, Any]) -> Tag:
    """The verdict of a detection, or how far it is."""
    state = detection["state"]
    words = {"queued": "Waiting", "running": "Being looked at", "erased": "Erased"}
    return badge("none" if state == "erased" else detection["verdict"], detection.get("p_fake"), words.get(state, ""))


def estimate(p_fake: float | None, digits: int = 0) -> str:
    """A p_fake of 0.934 as 93 %: never certainty, even where the float has come to 1, so > 99 % and < 1 % are the ends (verdict.js has the same)."""
    if p_fake is None:
        return "–"
    sign, figure = short_of_certainty(p_fake * 100, 100.0, digits)
    return f"{sign} {figure} %".lstrip()


def percent(share: float | None, digits: int = 0) -> str:
    """A share of 0.934 as 93 %; none and all are 0 % and 100 %, and nothing else is rounded to them."""
    return f"{share * 100:.{digits}f} %" if share in (0, 1) else estimate(share, digits)


def moment(at: str | None) -> str:
    """2026-11-21T03:04:05.678+00:00 as 21 Nov 2026, 03:04 (UTC); nothing for nothing."""
    if not at:
        return "–"
    try:
        return datetime.fromisoformat(at.replace("Z", "+00:00")).strftime("%d\N{NO-BREAK SPACE}%b\N{NO-BREAK SPACE}%Y, %H:%M").lstrip("0")
    except ValueError:
        return at


def count(number: int | None, what: str) -> str:
    """1 face, 2 faces, 0 faces."""
    return f"{number or 0} {what}{'' if number == 1 else 's'}"


def size(length: int | None) -> str:
    """Bytes as a person says them."""
    if length is None:
        return "–"
    value, units = float(length), ["bytes", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" or value >= 100 else f"{value:.1f} {units[0]}"


def empty(what: str, why: str, to: str = "", do: str = "") -> None:
    """What a page shows where there is nothing yet: what, why, and what to do."""
    with tag("div", "", "empty"):
        drawing(icon("empty"))
        tag("p", what, "empty-what")
        if why:
            tag("p", why.replace("`", ""), "muted")
        if to:
            link(do, to, "button button-main")


def facts(rows: Iterable[tuple[str, Cell]], classes: str = "") -> None:
    """Names and values, as a description list."""
    with tag("dl", "", f"facts {classes}"):
        for name, value in rows:
            tag("dt", name)
            if callable(value):
                with tag("dd"):
                    value()
            else:
                tag("dd", "–" if value in (None, "") else str(value))


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], show_caption: bool = False) -> None:
    """A plain table. On a phone each row becomes a card that names its cells. A callable cell draws itself."""
    with tag("div", "", "table-frame", tabindex="0", role="region", aria_label=caption):
        with tag("table"):
            tag("caption", caption, "" if show_caption else "unseen")
            with tag("thead"), tag("tr"):
                for head in heads:
                    tag("th", head, scope="col")
            with tag("tbody"):
                for row in rows:
                    with tag("tr"):
                        for head, cell in zip(heads, row, strict=True):
                            if callable(cell):
                                with tag("td", data_head=head):
                                    cell()
                            else:
                                tag("td", "–" if cell in (None, "") else str(cell), data_head=head)


def pages(path: str, query: Mapping[str, Any], before: int | str | None, further: int | str | None) -> None:
    """The ways from one page of a list to its newest rows and to older ones, where there are such."""
    if before or further:
        with tag("nav", "", "row pages", aria_label="Further pages"):
            if before:
                link("Newest", address(path, query), "button")
            if further:
                link("Older", address(path, {**query, "before": further}), "button")


def field(label: str, name: str, kind: str = "text", hint: str = "", value: str = "", **more: Any) -> Tag:
    """A labelled input."""
    with tag("div", "", "field"):
        tag("label", label, for_=f"f-{name}")
        described = f"h-{name}" if hint else None
        made = tag("input", "", "", id=f"f-{name}", name=name, type=kind, value=value or None, aria_describedby=described, **more)
        if hint:
            tag("p", hint, "hint", id=f"h-{name}")
    return made


def choice(label: str, name: str, options: Mapping[str, str], value: str = "", classes: str = "", **more: Any) -> Tag:
    """A labelled choice of one."""
    with tag("div", "", f"field {classes}"):
        tag("label", label, for_=f"f-{name}")
        with tag("select", "", "", id=f"f-{name}", name=name, **more) as made:
            for key, text in options.items():
                tag("option", text, value=key, selected=key == value)
    return made


_GATHER = """(event) => {
  const form = event.target, since = event.timeStamp - form.dataset.sent;
  form.dataset.sent = event.timeStamp;
  if (!(since < 1000)) emit(Object.fromEntries(new FormData(form)));
}"""


class Form:
    """A form whose fields travel over the websocket when it is sent, for pages of somebody who is logged in.

    Sent again within a second, as by a double click, or while the first is worked on, as what was pressed while the connection was away, it is sent once.
    """

    def __init__(self, send: Callable[[dict[str, str]], Awaitable[None]], classes: str = "form") -> None:
        self.send, self.working = send, False
        self.element = tag("form", "", classes)
        self.element.on("submit.prevent", self._sent, js_handler=_GATHER)

    async def _sent(self, event: Any) -> None:
        if self.working:
            return
        given = event.args if isinstance(event.args, dict) else {}
        self.working = True
        try:
            await self.send({str(key): str(value)[:4000] for key, value in given.items()})
        finally:
            self.working = False

    def __enter__(self) -> Tag:
        return self.element.__enter__()  # type: ignore[return-value]

    def __exit__(self, *problem: Any) -> None:
        self.element.__exit__(*problem)
