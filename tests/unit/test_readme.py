"""What the README says that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from modelward.rules.catalogue import catalogue
from modelward.sidecar.problems import TABLE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_answers_is_the_sidecars() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z0-9-]+)` \| (.+) \|$", README, re.MULTILINE)
    assert rows == [(str(problem.status), problem.slug, problem.when) for problem in TABLE]


def test_the_number_of_rules_is_the_catalogues() -> None:
    assert f"The {len(catalogue())} rules are data" in README


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")]
    for page in [*pages, ROOT / "charts/modelward/README.md"]:
        for target in re.findall(r"\]\(([\w./-]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and "<" not in target:
                assert (page.parent / target).exists(), (
                    f"{page.relative_to(ROOT)} links to {target}, which is not there"
                )
