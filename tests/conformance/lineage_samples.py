"""Events as other programs get them: of an ordinary model, of the largest there can be, and of strange manifests."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, settings

from modelward.lineage.events import Event, deployment, fitting, serving
from modelward.lineage.subject import Fit, Subject, subject_of
from modelward.windows import MAX_CONSUMERS, Consumer, Window
from tests.conformance.test_openlineage import fits, models, policies, windows, words
from tests.corpus.largest import largest_policy
from tests.unit.lineage.manifests import DATASET, NOW, model, policy

BASIS = {"article6": "PublicTask", "article9": "HealthCare", "note": "Hospital Act, section 12"}
LATER = "2026-03-01T12:00:40Z"
LEE = Consumer("user:lee", "clinic", "diagnosis", 3, 6, NOW, NOW)
WINDOW = Window(7, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 5, 3, 6, (LEE,), 0)


def ordinary(name: str = "wdbc") -> Subject:
    """A model of a clinic's, with treated fields and a legal basis."""
    raw = model()
    raw["metadata"] = {**raw["metadata"], "name": name, "uid": f"uid-{name}"}
    return subject_of(raw, [policy(legalBasis=BASIS, classification="SpecialCategory")])


def life(about: Subject) -> list[Event]:
    """One event of each kind that there is in a model's life, up to its end."""
    fit = Fit("r/1", DATASET, "START")
    return [
        *deployment(about, "modelward", NOW, "CREATE"),
        fitting(about, "modelward", NOW, fit),
        fitting(about, "modelward", NOW, fit._replace(state="FAIL", why="the data set is not there")),
        fitting(about, "modelward", LATER, fit._replace(run="r/2")),
        fitting(about, "modelward", LATER, fit._replace(run="r/2", state="COMPLETE", sha256="c" * 64)),
        *serving(about, "modelward", f"{about.name}-0", "p1", WINDOW),
        *deployment(about._replace(spec="another"), "modelward", NOW, "ALTER"),
        *deployment(about, "modelward", NOW, "DROP"),
    ]


def largest() -> tuple[Event, Event]:
    """A window of the largest model that the API server takes, asked by as many as a window names."""
    columns = [f"{'n' * 124}{column:04}" for column in range(1024)]
    inputs = [
        {"name": f"t{index}", "datatype": "FP64", "columns": [f"{index}{one}" for one in columns]}
        for index in range(128)
    ]
    governing = [policy(f"p{index}", **largest_policy(index)) for index in range(10)]
    about = subject_of(model({}, inputs, inputs, ["diagnosis"]), governing)
    names = (f"{'c' * 509}{one:03}" for one in range(MAX_CONSUMERS))
    crowd = tuple(Consumer(name, "i" * 512, "p" * 512, 1, 1, NOW, NOW) for name in names)
    return serving(about, "modelward", "r", "p", msgspec.structs.replace(WINDOW, consumers=crowd))


def strange(count: int) -> list[Event]:
    """Events of `count` manifests, policies and reports that are drawn at random, the same each time."""
    made: list[Event] = []

    @settings(
        max_examples=count, derandomize=True, database=None, phases=[Phase.generate], deadline=None,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(models, policies, windows, fits, words)
    def draw(raw: dict[str, Any], governing: list[dict[str, Any]], window: Window, fit: Fit, replica: str) -> None:
        raw["metadata"] = {**raw["metadata"], "name": f"m{len(made)}", "uid": f"u{len(made)}"}
        about = subject_of(raw, governing)
        made.extend(deployment(about, "modelward", NOW, "CREATE"))
        made.append(fitting(about, "modelward", NOW, fit))
        made.extend(serving(about, "modelward", replica, "p1", window))

    draw()
    return made
