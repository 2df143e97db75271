"""What the README says that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

from modelward.planner.sidecar import CONTAINER_NAME, HTTPS_PORT
from modelward.rules.catalogue import catalogue
from modelward.sidecar.problems import TABLE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    ROOT / "README.md",
    ROOT / "charts/modelward/README.md",
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "examples").glob("*/README.md"),
)


def test_the_table_of_answers_is_the_sidecars() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z0-9-]+)` \| (.+) \|$", README, re.MULTILINE)
    assert rows == [(str(problem.status), problem.slug, problem.when) for problem in TABLE]


def test_the_number_of_rules_is_the_catalogues() -> None:
    assert f"The {len(catalogue())} rules are data" in README


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([\w./-]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and "<" not in target:
                assert (page.parent / target).exists(), (
                    f"{page.relative_to(ROOT)} links to {target}, which is not there"
                )


def test_every_table_has_its_heading() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert re.match(r".*\n\|[\s:|-]+\|\n", table), f"{page.relative_to(ROOT)} is cut in two above: {table[:80]}"


def test_commands_name_what_the_cluster_has() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert f".svc:{HTTPS_PORT}" not in text, f"{page.relative_to(ROOT)}: a model's Service has port 443"
        for container in re.findall(r"kubectl [^\n]*logs [^\n|`]*-c ([\w-]+)", text):
            assert container == CONTAINER_NAME, f"{page.relative_to(ROOT)}: there is no container {container}"


def test_commands_of_make_are_there_and_no_file_stands_in_for_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z][a-z0-9-]*)", page.read_text(encoding="utf-8")))
        assert named <= targets, f"{page.relative_to(ROOT)} names {named - targets}, which make does not know"
