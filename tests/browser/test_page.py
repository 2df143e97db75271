"""The audit page in a real browser: inert, quiet, by keyboard, for screen readers, in the dark, and printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelward.reporting.page import SECTIONS
from tests.browser.chromium import Browser
from tests.browser.pixels import decoded, from_afar
from tests.browser.reference import FOLDER, VIEWS, seen
from tests.unit.reporting.test_page import contrast

FOCUSED = """(() => { const e = document.activeElement; const b = e.getBoundingClientRect();
  return {name: e.localName, text: (e.getAttribute('aria-label') || e.textContent || e.id).trim(),
    seen: b.width > 0 && b.height > 0 && b.right > 0, outline: getComputedStyle(e).outlineStyle,
    last: e === document.body}; })()"""


def quiet(tab: Browser, url: str) -> None:
    """Nothing was asked of a network, nothing was refused and nothing failed."""
    asked = [one["request"]["url"] for one in tab.told("Network.requestWillBeSent")]
    assert asked == [url]
    assert tab.told("Log.entryAdded") == []
    assert tab.told("Runtime.exceptionThrown") == []
    assert tab.told("Runtime.consoleAPICalled") == []
    assert tab.told("Page.javascriptDialogOpening") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_asks_nothing_of_a_network_and_nothing_fails(tab: Browser, told: str, scheme: str) -> None:
    tab.look(scheme)
    tab.open(told)
    tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    quiet(tab, told)


@pytest.mark.parametrize("width", [1280, 360])
def test_whatever_others_write_is_shown_and_does_nothing(tab: Browser, hostile: str, width: int) -> None:
    tab.resize(width, 900)
    tab.open(hostile)
    tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    quiet(tab, hostile)
    assert tab.run("document.scripts.length") == 1
    assert tab.run("document.images.length + document.querySelectorAll('iframe,link,base,form').length") == 0
    assert tab.run("document.body.innerText.split('onerror=alert(1)').length") > 60
    assert tab.run("document.documentElement.scrollWidth") <= width  # what is wide scrolls in its own frame


def test_the_policy_of_the_page_keeps_scripts_and_connections_out(tab: Browser, told: str) -> None:
    tab.open(told)
    tab.run(
        "{ const made = document.createElement('script'); made.textContent = 'globalThis.hit = 1';"
        " document.body.append(made);"
        " const image = new Image(); image.src = 'https://evil.example/x'; document.body.append(image); }"
    )
    assert tab.run("globalThis.hit === undefined")
    assert tab.run("fetch('https://evil.example/').then(() => 'sent', () => 'refused')") == "refused"
    tab.settle()
    tried = {one["requestId"] for one in tab.told("Network.requestWillBeSent") if one["request"]["url"] != told}
    kept = {one["requestId"] for one in tab.told("Network.loadingFailed") if one.get("blockedReason") == "csp"}
    assert tried
    assert tried <= kept


def test_the_way_through_it_by_keyboard(tab: Browser, told: str) -> None:
    tab.open(told)
    tab.press("Tab")
    first = tab.run(FOCUSED)
    assert (first["text"], first["seen"]) == ("Skip to the report", True)
    way = [first]
    for _ in range(200):
        tab.press("Tab")
        way.append(tab.run(FOCUSED))
        if way[-1]["last"]:
            break
    assert way.pop()["last"]  # no trap
    assert all(one["seen"] for one in way)
    assert all(one["outline"] != "none" or one["name"] == "a" for one in way)
    texts = [one["text"] for one in way]
    assert [*SECTIONS.values()] == texts[1 : 1 + len(SECTIONS)]
    assert "clinic/wdbc" in texts  # the link to its entry
    assert any(text.startswith("dataset s3://clinic/wdbc.csv, sha256:aaa") for text in texts)  # in the drawing
    assert "filter" in texts
    assert {"summary", "input", "span", "a", "div"} <= {one["name"] for one in way}


def test_enter_opens_an_entry_and_a_node_leads_to_its_row(tab: Browser, told: str) -> None:
    tab.open(told)
    tab.run("document.querySelector('details.entry[data-model=\"clinic/wdbc\"] > summary').focus()")
    tab.press("Enter")
    assert tab.run("document.activeElement.parentNode.open") is True
    tab.run("document.querySelector('#register .node.dataset[aria-label^=\"dataset s3\"]').focus()")
    tab.press("Enter")
    row = tab.run("document.querySelector(decodeURIComponent(location.hash)).innerText")
    assert "s3://clinic/wdbc.csv" in row
    tab.press("Enter", shift=True)
    assert tab.run("document.querySelector('details.entry:not([open])') !== null")


def test_a_link_to_a_closed_entry_opens_it(tab: Browser, told: str) -> None:
    tab.open(told)
    tab.run("document.querySelector('#verdicts tbody a[href]').focus()")
    tab.press("Enter")
    tab.settle()
    assert tab.run("document.querySelector(location.hash).closest('details').open") is True


def test_filter_and_sort(tab: Browser, told: str) -> None:
    tab.open(told)
    shown = "[...document.querySelectorAll('details.entry:not([hidden]) h3')].map(one => one.textContent).join()"
    tab.run("document.getElementById('filter').focus()")
    tab.ask("Input.insertText", text="WDBC")
    assert tab.run(shown) == "clinic/wdbc"
    assert tab.run("document.getElementById('shown').textContent") == "1 of 3 models shown"
    tab.run("document.getElementById('filter').value = ''; document.getElementById('only-findings').click()")
    rows = "[...document.querySelectorAll('#verdicts .sortable tbody tr')].map(one => one.cells[0].innerText).join()"
    tab.run("document.getElementById('only-findings').click()")
    assert tab.run(rows) == "clinic/circular,clinic/hurried,clinic/wdbc"
    heading = "document.querySelector('#verdicts .sortable th [role=button]')"
    tab.run(f"{heading}.focus()")
    tab.press("Enter")
    assert tab.run(f"{heading}.parentNode.ariaSort") == "ascending"
    tab.press("Enter")
    assert tab.run(f"{heading}.parentNode.ariaSort") == "descending"
    assert tab.run(rows) == "clinic/wdbc,clinic/hurried,clinic/circular"


def test_without_script_everything_is_there(tab: Browser, told: str) -> None:
    tab.open(told, scripts=False)
    assert tab.run("getComputedStyle(document.getElementById('tools')).display") == "none"
    assert tab.run("document.querySelectorAll('details.entry').length") == 3
    assert tab.run("document.querySelector('th [role=button]')") is None


NAMED = {
    "link",
    "button",
    "image",
    "img",
    "region",
    "table",
    "textbox",
    "searchbox",
    "checkbox",
    "heading",
    "navigation",
}


def test_all_that_a_screen_reader_stops_at_has_a_name(tab: Browser, told: str) -> None:
    tab.open(told)
    tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    nodes = [one for one in tab.ask("Accessibility.getFullAXTree")["nodes"] if not one.get("ignored")]

    def value(node: dict[str, Any], part: str) -> str:
        return str(node.get(part, {}).get("value", ""))

    nameless = [value(one, "role") for one in nodes if value(one, "role") in NAMED and not value(one, "name").strip()]
    assert nameless == []
    roles = {value(one, "role") for one in nodes}
    assert {"main", "navigation", "banner", "contentinfo", "search", "columnheader", "rowheader", "status"} <= roles
    names = {value(one, "name") for one in nodes}
    assert "Incidents over time: 4 AccessDenied, 12 AnomalyDetected, 3 SidecarMissing." in names
    assert "Selection rate by age: under 40 0.310, over 60 0.520." in {name.replace("  ", " ") for name in names}


def test_text_can_be_read_in_both_schemes(tab: Browser, told: str) -> None:
    """Each piece of text against what is behind it, as the browser computed both."""
    for scheme in ("light", "dark"):
        tab.look(scheme)
        tab.open(told)
        pairs = tab.run(
            """(() => { const found = new Set();
              document.querySelectorAll('details').forEach(one => one.open = true);
              const behind = e => { for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c; } };
              const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
              while (walk.nextNode()) { const e = walk.currentNode.parentElement;
                if (!walk.currentNode.data.trim() || ['SCRIPT', 'title'].includes(e.nodeName)) continue;
                const s = getComputedStyle(e);
                found.add((e.ownerSVGElement ? s.fill : s.color) + '|' + behind(e)); }
              return [...found]; })()"""
        )
        assert len(pairs) >= 5
        for pair in pairs:
            assert contrast(*map(_hex, pair.split("|"))) >= 4.5, (scheme, pair)


def _hex(colour: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_it_looks_as_it_did(tab: Browser, told: str, name: str) -> None:
    """From afar, so that another font makes no difference; see `tests.browser.reference`."""
    pixels = decoded(seen(tab, told, name))
    stored = decoded((FOLDER / f"{name}.png").read_bytes())[:, :, 0].astype(int)
    now = from_afar(pixels).astype(int)
    rows, columns = (min(pair) for pair in zip(now.shape, stored.shape, strict=True))
    assert abs(now.shape[0] - stored.shape[0]) <= 3
    alike = np.corrcoef(now[:rows, :columns].ravel(), stored[:rows, :columns].ravel())[0, 1]
    assert alike > 0.8, f"what is dark and what is light is alike by {alike:.2f}"
    if name == "dark":
        assert np.median(now) < 60
    else:
        assert np.median(now) > 200


def test_printed_it_holds_all_that_is_closed_on_the_screen(tab: Browser, told: str, tmp_path: Path) -> None:
    tab.look("dark")
    tab.open(told)
    path = tmp_path / "report.pdf"
    path.write_bytes(tab.printed())
    text = subprocess.run(("pdftotext", path, "-"), capture_output=True, text=True, check=True).stdout
    words = " ".join(text.split())
    for expected in (
        "Time limits for erasure (f)",
        "10 years",
        "Demographic parity difference 0.210",
        "a pod runs without its sidecar",
        "approved by ciso@clinic.example",
        "MITRE ATLAS mitigations",
        "serviceaccount:apps/triage",
    ):
        assert expected in words, expected
    assert re.search(r"1 / \d+", words)  # numbers of pages
    assert "Skip to the report" not in words
    told_of = subprocess.run(("pdfinfo", path), capture_output=True, text=True, check=True).stdout
    assert "A4" in told_of


def test_nothing_printed_is_cut_off(tab: Browser, hostile: str, told: str) -> None:
    for url in (told, hostile):
        tab.resize(680, 900)  # about what A4 leaves between the margins
        tab.look(media="print")
        tab.open(url)
        tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        all_ = "[...document.querySelectorAll('table, dl, svg, p')]"
        wide = f"{all_}.filter(e => e.getBoundingClientRect().right > innerWidth)"
        assert tab.run(f"{wide}.map(e => e.localName + ': ' + e.textContent.slice(0, 80))") == []
