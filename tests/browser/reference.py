"""How the page looks from afar: `python -m tests.browser.reference` stores that anew."""

from __future__ import annotations

import tempfile
from pathlib import Path

from modelward.reporting.compose import compose
from modelward.reporting.page import page
from tests.browser.chromium import Browser, browser
from tests.browser.pixels import decoded, encoded, from_afar
from tests.unit.reporting.sample import sources

FOLDER = Path(__file__).parent / "reference"
VIEWS = {
    "light": "",
    "dark": "",
    "lineage": "#lineage svg",
    "incidents": "#incidents svg",
    "fairness": "#register svg[aria-labelledby*=fair]",
    "drift": "#register svg[aria-labelledby*=drift]",
}
"""Names of references, and the element that is shown; none: the first screen."""


def seen(tab: Browser, url: str, name: str) -> bytes:
    """Return a screenshot (PNG) of a view."""
    tab.look("dark" if name == "dark" else "light")
    tab.open(url)
    tab.run("document.querySelectorAll('details.entry').forEach(one => one.open = true)")
    return tab.screenshot(VIEWS[name])


def main() -> None:
    """Store every view."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as tab:
        path = Path(folder) / "report.html"
        path.write_text(page(compose(sources())), encoding="utf-8")
        tab.resize(1280, 900)
        for name in VIEWS:
            (FOLDER / f"{name}.png").write_bytes(encoded(from_afar(decoded(seen(tab, path.as_uri(), name)))))


if __name__ == "__main__":
    main()
