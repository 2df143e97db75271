"""Writes HTML and SVG: every text is escaped, unless it is markup that was made here.

Texts come from manifests, tokens and logs: they are shown as text, whatever they say. Addresses among them never become
links.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from modelward.api.printable import printable
from modelward.reporting.sources import moment

_VOID = frozenset({"meta", "br", "input", "col", "hr"})


class Html(str):
    """Markup."""

    __slots__ = ()


NOTHING = Html("")

_ORDINARY = re.compile(r"[ !#-%(-;=?-~]*")  # printable ASCII without what HTML gives a meaning


def text(value: object) -> str:
    """Return a value as text that can stand anywhere in HTML, quoted attributes included."""
    told = str(value)
    return told if _ORDINARY.fullmatch(told) else html.escape(printable(told), quote=True)


def el(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Args:
        name: its name.
        children: markup as it is, other texts escaped; lists are taken apart, None is nothing.
        attributes: `class_` is `class`, `aria_label` is `aria-label`; None and False are left out, True is bare.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Html:
    """Return children one after another."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif child is None:
            continue
        elif isinstance(child, str | int | float):
            parts.append(text(child))
        else:
            parts.append(join(child))
    return Html("".join(parts))


def between(separator: str, children: Iterable[Any]) -> Html:
    """Return children with a separator between them."""
    return Html(text(separator).join(join([child]) for child in children))


def table(
    caption: Any,
    headings: Iterable[Any],
    rows: Iterable[Iterable[Any]],
    *,
    class_: str = "",
    numeric: Iterable[int] = (),
) -> Html:
    """Return a table in a frame that scrolls where it is too wide: the first cell of a row is its heading.

    Args:
        caption: says what it shows.
        headings: of the columns.
        rows: cells; a cell that is an element `td` or `th` stands as it is.
        class_: of the table.
        numeric: numbers of the columns that hold numbers.
    """
    right = set(numeric)
    head = [el("th", one, scope="col", class_="number" if n in right else None) for n, one in enumerate(headings)]
    body = [one if isinstance(one, Row) else el("tr", *cells(one, right)) for one in rows]
    parts = (el("caption", caption), el("thead", el("tr", *head)), el("tbody", *body))
    return frame(el("table", *parts, class_=class_ or None), caption)


def frame(content: Html, title: str) -> Html:
    """Return something wide in a frame that scrolls, by keyboard as well."""
    return el("div", content, class_="frame", tabindex="0", role="region", aria_label=title)


def section(key: str, title: str, *content: object) -> Html:
    """Return a section of the page, a landmark that its heading names."""
    return el("section", el("h2", title, id=f"{key}-title"), *content, id=key, aria_labelledby=f"{key}-title")


class Row(Html):
    """A row of a table, made already."""

    __slots__ = ()


def cells(row: Iterable[Any], numeric: Iterable[int] = ()) -> list[Html]:
    """Return the cells of a row; the first is its heading."""
    right = set(numeric)
    return [
        el("td" if n else "th", one, scope=None if n else "row", class_="number" if n in right else None)
        for n, one in enumerate(row)
    ]


def time(value: Any) -> Html:
    """Return a time for people, with the exact one for programs; as it is where it is none."""
    when = moment(value)
    return el("time", shown_time(when), datetime=value) if when else Html(text(value or ""))


def shown(value: Any) -> str:
    """Return a time as text for people; as it is where it is none."""
    when = moment(value)
    return shown_time(when) if when else str(value or "")


def shown_time(when: datetime) -> str:
    """Write a time for people."""
    return when.strftime("%Y-%m-%d %H:%M UTC")


def count(number: float, one: str, many: str = "") -> str:
    """Return a number with its noun, as in `1 model` and `1,000 models`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
