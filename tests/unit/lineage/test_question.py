"""What is asked of the graph: what is meant by a name, and what answers."""

from __future__ import annotations

import pytest

from modelward.lineage.graph import Builder, Graph, Use
from modelward.lineage.question import QuestionError, of_digest, of_name

DATA, MADE = (f"sha256:{digit * 64}" for digit in "ab")


def graph() -> Graph:
    """Data -> artefact -> clinic/wdbc and lab/wdbc -> consumers; clinic/other of nothing."""
    builder = Builder()
    data = builder.add("dataset", "s3://clinic/wdbc.csv", DATA)
    made = builder.add("artefact", "oci://registry/wdbc", MADE)
    builder.link(data, made)
    for model in ("clinic/wdbc", "lab/wdbc"):
        builder.link(made, builder.add("model", model))
    builder.link("model:clinic/wdbc", builder.add("consumer", "user:lee", issuer="clinic"), uses=[Use("care")])
    builder.link("model:lab/wdbc", builder.add("consumer", "user:ray", issuer="lab"), uses=[Use("study")])
    builder.add("model", "clinic/other")
    return builder.graph()


def names(answer) -> list[str]:
    return [one.name for one in answer.graph.nodes]


@pytest.mark.parametrize("asked", ["md/wdbc", "wdbc", "modeldeployment/wdbc", "md/clinic/wdbc", "clinic/wdbc"])
def test_of_a_model_where_it_came_from_and_who_got_its_answers(asked):
    answer = of_name(graph(), asked, "clinic")
    assert names(answer) == ["s3://clinic/wdbc.csv", "oci://registry/wdbc", "clinic/wdbc", "user:lee"]
    assert (answer.direction, [one.name for one in answer.about]) == ("both", ["clinic/wdbc"])
    assert len(answer.graph.edges) == 3


@pytest.mark.parametrize("asked", [DATA, DATA.removeprefix("sha256:"), f"s3://anywhere@{DATA}"])
def test_of_a_digest_everything_that_it_reached(asked):
    answer = of_digest(graph(), asked)
    assert [one.name for one in answer.graph.of_kind("model")] == ["clinic/wdbc", "lab/wdbc"]
    assert [one.name for one in answer.graph.of_kind("consumer")] == ["user:lee", "user:ray"]
    assert names(of_name(graph(), asked)) == names(answer)


def test_of_an_address_and_of_a_consumer():
    assert of_name(graph(), "s3://clinic/wdbc.csv").direction == "downstream"
    back = of_name(graph(), "user:lee")
    assert (back.direction, names(back)[-2:]) == ("upstream", ["clinic/wdbc", "user:lee"])
    assert "lab/wdbc" not in names(back)


@pytest.mark.parametrize(
    ("name", "namespace", "told"),
    [
        ("wdbc", None, r"wdbc is in several namespaces \(clinic, lab\): give -n"),
        ("md/wdbx", None, "no model md/wdbx; models that are known: clinic/other, clinic/wdbc, lab/wdbc"),
        ("wdbx", None, "nothing that is called wdbx; models that are known"),
        ("wdbc", "shop", "no model wdbc in namespace shop: no model is known there"),
        ("md/user:lee", None, "no model md/user:lee"),
        ("\x1b[31m", None, r"\\x1b\[31m"),
    ],
)
def test_what_is_not_known_is_told_with_what_is(name, namespace, told):
    with pytest.raises(QuestionError, match=told):
        of_name(graph(), name, namespace)


@pytest.mark.parametrize(
    ("digest", "told"),
    [
        ("sha256:abc", "is no digest"),
        (DATA.upper(), "is no digest"),
        ("", "is no digest"),
        ("c" * 64, "no annotation of a model and no signed statement names it"),
    ],
)
def test_a_digest_that_is_none_or_that_nothing_has(digest, told):
    with pytest.raises(QuestionError, match=told):
        of_digest(graph(), digest)


def test_lineage_that_goes_round_is_answered_and_not_looped_on():
    builder = Builder()
    one, other = builder.add("dataset", "a", DATA), builder.add("artefact", "b", MADE)
    builder.link(one, other)
    builder.link(other, one)
    builder.link(other, builder.add("model", "clinic/m"))
    answer = of_name(builder.graph(), "md/m")
    assert len(answer.graph.cycles) == 1
    assert len(of_digest(builder.graph(), DATA).graph.nodes) == 3
