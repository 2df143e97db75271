"""Text that others wrote, made fit to be shown: a manifest must not be able to steer a terminal or break a report."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return the text with every character that is not printable as its escape, such as `\x1b` or `\u202e`.

    Control characters steer terminals, directional overrides make text read as another, and lone surrogates can be
    written in no encoding.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
