"""Every event is one of OpenLineage's, whatever manifests, policies and sidecars say."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openlineage.client.serde import Serde
from referencing.exceptions import Unresolvable

from modelward.api.datapolicy import LegalBasis
from modelward.lineage.events import deployment, fitting, serving
from modelward.lineage.subject import Fit, subject_of
from modelward.windows import MAX_CONSUMERS, Consumer, Window
from tests.conformance.openlineage import facets, judged, problems, schemas
from tests.corpus.largest import largest_policy
from tests.unit.lineage.manifests import NOW, model, policy

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text("abcdefgh_", min_size=1, max_size=8)
digests = st.sampled_from(["", "@sha256:" + "a" * 64, "@sha256:short"])
addresses = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        ["s3://clinic/", "oci://registry:5000/", "pvc://data/", "", "https://[::1]/", "http://[", "://", "?"]
    ),
    words,
    digests,
)
steps = st.lists(st.fixed_dictionaries({"what": words, "how": words, "why": words}), max_size=3)
annotations = st.fixed_dictionaries(
    {},
    optional={
        "lineage.modelward.io/dataset": addresses,
        "lineage.modelward.io/model": addresses,
        "lineage.modelward.io/training-run": addresses,
        "lineage.modelward.io/consumer": words,
        "lineage.modelward.io/transformations": steps.map(lambda one: json.dumps(one, ensure_ascii=False)),
    },
)
tensors = st.builds(
    lambda name, datatype, columns: {
        "name": name,
        "datatype": datatype,
        "shape": [-1, len(columns)],
        "columns": columns,
    },
    names,
    st.sampled_from(["FP64", "BYTES", "INT64", "BOOL"]),
    st.lists(names, max_size=5, unique=True),
)
treatments = st.sampled_from(
    [
        {"treatment": "Keep"},
        {"treatment": "Drop"},
        {"treatment": "Pseudonymise"},
        {"treatment": "Tokenise"},
        {"treatment": "Generalise", "step": 5.0},
        {"treatment": "Generalise", "hierarchy": "ages", "level": 2},
        {"treatment": "Mask", "keepLast": 4},
        {"treatment": "Mask", "identifiers": True},
        {"treatment": "Bucket", "edges": [1.0, 2.0]},
        {"treatment": "Round", "digits": -1},
        {"treatment": "DateShift", "maxDays": 30},
    ]
)
fields = st.builds(lambda name, role, treated: {"name": name, "role": role, **treated},
    names, st.sampled_from(["Identifier", "QuasiIdentifier", "Feature"]), treatments)  # fmt: skip
articles = {name: get_args(LegalBasis.model_fields[name].annotation) for name in ("article6",)}
bases = st.fixed_dictionaries(
    {"article6": st.sampled_from(articles["article6"])},
    optional={"article9": st.sampled_from(["HealthCare", "ExplicitConsent"]), "note": words},
)
policies = st.lists(
    st.builds(
        lambda name, fields, basis, data: policy(name, fields, legalBasis=basis, classification=data),
        names,
        st.lists(fields, max_size=4, unique_by=lambda one: one["name"]),
        st.none() | bases,
        st.sampled_from([None, "SpecialCategory", "Public"]),
    ),
    max_size=3,
)
models = st.builds(
    model,
    annotations,
    st.lists(tensors, max_size=3),
    st.lists(tensors, max_size=2),
    st.lists(names, max_size=3),
)
consumers = st.builds(
    Consumer, words, words, words, st.integers(0, 10**12), st.integers(0, 10**12), st.just(NOW), st.just(NOW)
)
windows = st.builds(
    Window,
    st.integers(1, 10**12),
    st.just("2026-03-01T12:00:00Z"),
    st.just("2026-03-01T12:01:00Z"),
    *[st.integers(0, 10**12)] * 3,
    st.lists(consumers, max_size=3).map(tuple),
    st.integers(0, 10**12),
)
fits = st.builds(
    Fit, words, addresses, st.sampled_from(["START", "COMPLETE", "FAIL"]), words, st.sampled_from(["", "b" * 64])
)


@settings(deadline=None)
@given(models, policies, windows, fits, words, st.sampled_from(["CREATE", "ALTER", "DROP"]))
def test_every_event_is_as_published(
    raw: dict[str, Any], governing: list[dict[str, Any]], window: Window, fit: Fit, replica: str, change: Any
) -> None:
    subject = subject_of(raw, governing)
    events = [
        *deployment(subject, "modelward", NOW, change),
        fitting(subject, "modelward", NOW, fit),
        *serving(subject, "modelward", replica, "p1", window),
    ]
    for event in events:
        assert problems(event) == []


def test_the_largest_model_has_events_of_a_bounded_size() -> None:
    columns = [f"{'n' * 124}{column:04}" for column in range(1024)]
    inputs = [
        {"name": f"t{index}", "datatype": "FP64", "columns": [f"{index}{one}" for one in columns]}
        for index in range(128)
    ]
    governing = [policy(f"p{index}", **largest_policy(index)) for index in range(10)]
    subject = subject_of(model({}, inputs, inputs, ["diagnosis"]), governing)
    crowd = tuple(Consumer("c" * 512, "i" * 512, "p" * 512, 1, 1, NOW, NOW) for _ in range(MAX_CONSUMERS))
    window = Window(1, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 1, 1, 1, crowd)
    for event in serving(subject, "modelward", "r", "p", window):
        assert problems(event) == []
        assert len(Serde.to_json(event)) < 6 << 20


def test_the_judge_sees_what_is_wrong() -> None:
    window = Window(1, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 1, 1, 1)
    _, done = serving(subject_of(model(), [policy()]), "modelward", "r", "p", window)
    text = Serde.to_json(done)
    assert judged(json.loads(text)) == []
    assert len(list(facets(json.loads(text)))) >= 10
    for wrong in (
        text.replace('"runId": "', '"runId": "x'),
        text.replace("2026-03-01T12:01:00Z", "yesterday"),
        text.replace('"masking": true', '"masking": "yes"'),
        text.replace('"inputFields"', '"fields"'),
        text.replace('"requests": 1,', ""),
        text.replace('"eventType": "COMPLETE"', '"eventType": "DONE"'),
    ):
        assert wrong != text
        assert judged(json.loads(wrong))
    with pytest.raises(Unresolvable):
        judged(json.loads(text.replace("1-2-0", "9-9-9")))


@pytest.mark.parametrize("name", ["PurposeJobFacet", "TransformationsJobFacet", "ServingRunFacet"])
def test_own_facets_are_known_by_a_stable_address(name: str) -> None:
    assert f"https://modelward.io/spec/facets/1-0-0/{name}.json" in schemas()
