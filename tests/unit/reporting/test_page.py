"""The page as text: valid, inert whatever others write, and readable in both colour schemes."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage.build import build
from modelward.reporting.compose import compose
from modelward.reporting.html import Html, el, text
from modelward.reporting.lineage_view import lineage
from modelward.reporting.page import MANY, SECTIONS, page
from tests.unit.reporting.sample import HOSTILE, sources

VOID = {"meta", "br", "input", "col", "hr"}


class Parsed(HTMLParser):
    """The elements of a page, and whether each was closed in order."""

    def __init__(self, told: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(told)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def told() -> str:
    return page(compose(sources()))


@pytest.fixture(scope="module")
def hostile() -> str:
    return page(compose(sources(HOSTILE)))


def test_it_is_well_formed_and_has_every_section(told: str, hostile: str) -> None:
    for one in (told, hostile):
        found = Parsed(one)
        ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
        assert len(set(ids)) == len(ids)
        assert set(SECTIONS) <= set(ids)
        targets = [str(a["href"]).removeprefix("#") for a in found.named("a")]
        assert set(targets) <= set(ids)
        for _, attributes in found.elements:
            for name in ("aria-labelledby", "marker-end"):
                if name in attributes:
                    assert re.sub(r"url\(#(.*)\)", r"\1", str(attributes[name])) in ids


def test_whatever_others_write_is_text(told: str, hostile: str) -> None:
    assert hostile.count("onerror=alert(1)") > 60  # it is there, in every part
    for one in (told, hostile):
        found = Parsed(one)
        assert {name for name, _ in found.elements if name in ("script", "img", "iframe", "base", "form", "link")} == {
            "script"
        }
        assert len(found.named("script")) == 1
        attributes = {name for _, each in found.elements for name in each}
        assert not any(name.startswith("on") or name in ("style", "src", "action", "xlink:href") for name in attributes)
        assert all(str(a["href"]).startswith("#") for a in found.named("a"))
        assert all(ord(character) != 0x202E for character in one)


def test_style_and_script_are_allowed_by_their_hashes_and_nothing_else_is(told: str) -> None:
    (policy,) = [
        one["content"] for one in Parsed(told).named("meta") if one.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    for tag in ("style", "script"):
        within = re.search(f"<{tag}>(.*?)</{tag}>", told, re.DOTALL)
        assert within
        digest = base64.b64encode(hashlib.sha256(within[1].encode()).digest()).decode()
        assert rules.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_headings_tables_and_landmarks(told: str) -> None:
    found = Parsed(told)
    levels = [int(name[1]) for name, _ in found.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert len(found.named("caption")) == len(found.named("table"))
    assert {str(one.get("scope")) for one in found.named("th")} == {"col", "row"}
    assert len(found.named("main")) == len(found.named("nav")) == len(found.named("header")) == 1
    assert found.named("html") == [{"lang": "en"}]
    for one in found.named("svg"):
        assert one["role"] in ("img", "group")
        assert one["aria-labelledby"]


def test_what_is_not_declared_is_called_so() -> None:
    bare = page(compose(sources(controller=None, contact=None, namespaces={}, events=[], logged=[], consumed=[])))
    assert bare.count("not declared") > 20
    nothing = page(compose(sources(models=[], policies=[], events=[], logged=[], consumed=[], notes=[])))
    for words in (
        "No dataset is declared",
        "No certificate is told of",
        "No policy makes an exception",
        "None is told of",
    ):
        assert words in nothing


def test_what_others_declare_of_a_models_data_is_told_as_theirs() -> None:
    def declared(namespace: str, made: str, source: str) -> dict[str, Any]:
        said = {"model": f"oci://m@sha256:{made * 64}", "dataset": f"s3://d@sha256:{source * 64}"}
        annotations = {f"lineage.modelward.io/{name}": text for name, text in said.items()}
        return {"metadata": {"namespace": namespace, "name": "m", "annotations": annotations}, "spec": {}}

    graph = build([declared("clinic", "a", "b"), declared("elsewhere", "a", "c"), declared("elsewhere", "b", "d")])
    own = graph.upstream("model:clinic/m")
    told = str(lineage(own, "Lineage", "k", draw=False, model="clinic/m"))
    rows = told.split("<tr")[2:]
    assert sorted("declared by elsewhere/m" in row for row in rows) == [False, False, True, True]
    assert "by a signed statement" not in told, "nobody signed that the one came of the other"
    assert "by a signed statement" in str(lineage(build([], dependencies={"a" * 64: ["b" * 64]}), "L", "k", draw=False))


def test_re_identification_says_whether_people_or_rows_were_counted(told: str) -> None:
    assert "in combinations of age, postcode that fewer than k = 5 rows share" in told
    wdbc = sources().models[0]
    status = {**wdbc["status"], "reidentification": {**wdbc["status"]["reidentification"], "people": True}}
    assert "fewer than k = 5 people share" in page(compose(sources(models=[{**wdbc, "status": status}])))


def test_many_models_are_told_in_words_alone() -> None:
    one = sources().models[1]
    models = [{**one, "metadata": {**one["metadata"], "name": f"m{n}"}} for n in range(MANY + 1)]
    few, many = (page(compose(sources(models=models[:count]))) for count in (MANY, MANY + 1))
    assert '<body class="many">' in many
    assert "<body>" in few


@given(st.text())
def test_any_text_is_escaped(value: str) -> None:
    found = Parsed(el("p", value, title=value))
    assert found.named("p")[0]["title"] == "".join(found.texts)
    assert "<" not in text(value)
    assert '"' not in text(value)
    assert text(value).isprintable()


def test_markup_is_what_was_made_here_alone() -> None:
    made = el("b", "x")
    assert el("p", made, [None, 1, ["<"]], hidden=True, id=None) == "<p hidden><b>x</b>1&lt;</p>"
    assert isinstance(made, Html)
    assert not isinstance(made + "<i>", Html)  # joined by hand, it is a text again


def _schemes(style: str) -> dict[str, dict[str, str]]:
    """The colours of each scheme: those of dark and print are laid over those of light."""
    light, dark, printed = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    return {"light": light, "dark": light | dark, "print": light | printed}


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2.2)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast_is_that_of_wcag_aa(told: str, scheme: str) -> None:
    style = re.search("<style>(.*?)</style>", told, re.DOTALL)
    assert style
    colours = _schemes(style[1])[scheme]
    for ground in ("ground", "sunk"):
        for ink in ("ink", "quiet", "link", "bad", "warn", "good"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for mark in ("edge", "mark", "bad", "focus"):  # what is no text, and has to be seen
            assert contrast(colours[mark], colours[ground]) >= 3, (mark, ground)
    assert contrast(colours["ink"], colours["warn-ground"]) >= 4.5


def test_contrast_is_computed_as_wcag_says() -> None:
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48
