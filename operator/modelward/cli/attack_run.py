"""Runs a suite of attacks on one endpoint: reads what it is given, learns what the model takes, drives the attacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelward.api.manifest import ManifestError
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import SchemaError, canonical, parse
from modelward.attack.catalogue import SUITES, Attack
from modelward.attack.driver import Budget, Driver
from modelward.attack.exchange import Asking, GoneError, Reply, SpentError
from modelward.attack.layout import Layout, LayoutError, Part, Protocol
from modelward.attack.oracle import metadata_of
from modelward.attack.report import SecurityTestReport
from modelward.attack.suite import EndedError
from modelward.attack.suite import run_suite as driven
from modelward.attack.target import Callers, Rows, Target
from modelward.cli.attack_client import Client, Place, Tls, Url
from modelward.cli.files import read_paths
from modelward.detect import table
from modelward.detect.encoding import Column
from modelward.planner.upstream import model_name_of, protocol_of

MAX_ROWS = 5000
_MAX_DATA = 256 << 20
_LATER = 4_102_444_800  # the year 2100
Tell = Callable[[str, float], None]


class AttackError(Exception):
    """What the user can mend; the message says how."""


@dataclass(frozen=True)
class Options:
    """What is attacked, with what, and how much; as the flags of `modelward attack` say it."""

    url: Url
    suite: str = "baseline"
    only: tuple[str, ...] = ()
    model: str | None = None
    manifest: Path | None = None
    protocol: Literal["v1", "v2"] | None = None
    tokens: tuple[str, ...] = ()
    stranger: str | None = None
    purpose: str | None = None
    tls: Tls = field(default_factory=Tls)
    model_port: Place | None = None
    data: Path | None = None
    holdout: Path | None = None
    label: str | None = None
    budget: Budget = field(default_factory=Budget)
    seed: int = 0

    def attacks(self) -> tuple[Attack, ...]:
        """Those of the suite, or of them those that are named, or whose family is.

        Raises:
            AttackError: a name is none's.
        """
        attacks = SUITES[self.suite]
        for name in self.only:
            if not any(_named(attack, name) for attack in attacks):
                ids = ", ".join(attack.id for attack in attacks)
                raise AttackError(f"--only {name}: no attack and no family of that name; there are {ids}")
        chosen = [attack for attack in attacks if any(_named(attack, name) for name in self.only)]
        return tuple(chosen) if self.only else attacks


def _named(attack: Attack, name: str) -> bool:
    return attack.id == name or attack.id.startswith(f"{name}.")


def run_suite(options: Options, tell: Tell = lambda _what, _share: None) -> SecurityTestReport:
    """Run the suite and return its report.

    Args:
        options: what, with what, how much.
        tell: is told what is being done, and the share of the budget that is used.

    Raises:
        AttackError: a file cannot be read, the endpoint cannot be reached, or nothing can be tried there.
        ClientError: the same of TLS.
    """
    attacks = options.attacks()
    md = _manifest(options)
    name = options.model or (model_name_of(md) if md else None)
    if not name:
        raise AttackError("which model is it? Name it with --model, or give its manifest with -f")
    protocol: Protocol = options.protocol or ("v1" if md and protocol_of(md) == "v1" else "v2")
    target = Target(
        model=name,
        host=options.url.authority,
        protocol=protocol,
        callers=Callers(options.tokens),
        issued=tuple(_issued(md)) if md else (),
        stranger=options.stranger,
        purpose=options.purpose,
        certificate=options.tls.certificate is not None,
        tls=options.url.tls,
        loopback=options.url.loopback,
        model_port=options.model_port is not None,
        rate_limit=_rate_limit(md),
        seed=options.seed,
    )
    with Client(options.url, options.tls, options.model_port) as client:
        client.check()
        driver = Driver(client.send, options.budget, time.monotonic, time.sleep, tell)
        try:
            target = _with_rows(target, options, _layout(target, md, driver))
            return driven(options.suite, attacks, target, driver, options.url.text)
        except (EndedError, GoneError, SpentError) as error:
            raise AttackError(f"{options.url.text}: {error}") from error


def _manifest(options: Options) -> ModelDeployment | None:
    if options.manifest is None:
        return None
    try:
        documents = [one for one in read_paths([options.manifest]) if one.kind == "ModelDeployment"]
        found = [resource for one in documents if isinstance(resource := parse(one.data), ModelDeployment)]
    except (ManifestError, SchemaError) as error:
        raise AttackError(f"{options.manifest}: {error}") from error
    named = [md for md in found if options.model in (None, md.metadata.name, model_name_of(md))]
    if len(named) != 1:
        names = ", ".join(md.metadata.name for md in found) or "none"
        raise AttackError(f"-f {options.manifest}: one ModelDeployment is wanted, of {names}; choose with --model")
    return named[0]


def _issued(md: ModelDeployment) -> Iterator[dict[str, Any]]:
    """Claims as each issuer that the manifest names would give them to the first that a rule lets ask."""
    access = md.spec.access
    rules = access.rules if access else ()
    subjects = [subject.partition(":")[2] for rule in rules for subject in rule.subjects if subject.startswith("user:")]
    groups = [subject.partition(":")[2] for rule in rules for subject in rule.subjects if subject.startswith("group:")]
    purposes = [purpose for rule in rules for purpose in rule.purposes]
    for issuer in access.issuers if access else ():
        yield {
            "iss": issuer.issuer,
            "aud": list(issuer.audiences),
            "sub": subjects[0] if subjects else "admin",
            "groups": groups,
            "exp": _LATER,
        } | ({"purpose": purposes[0]} if purposes else {})


def _rate_limit(md: ModelDeployment | None) -> tuple[int, float] | None:
    """The largest that a rule declares; None where one declares none, or nothing is known."""
    rules = [rule for rule in (md.spec.access.rules if md and md.spec.access else ()) if "Infer" in rule.operations]
    limits = [(rule.rate_limit.requests, float(rule.rate_limit.seconds)) for rule in rules if rule.rate_limit]
    return max(limits) if limits and len(limits) == len(rules) else None


def _layout(target: Target, md: ModelDeployment | None, driver: Driver) -> Layout | None:
    """As the manifest says, or else the model's metadata; None: neither does."""
    schema = canonical(md)["spec"].get("schema") if md else None
    try:
        if schema and schema.get("inputs"):
            layout = Layout.of_schema(schema, target.protocol)
            return layout if layout.outputs else replace(layout, outputs=_told(target, driver).outputs)
        told = _told(target, driver)
    except LayoutError as error:
        raise AttackError(f"the model's inputs: {error}") from error
    return told if told.parts else None


def _told(target: Target, driver: Driver) -> Layout:
    """What the model's metadata say, as far as they may be read."""
    if target.protocol == "v1":
        return Layout("v1", ())
    steps: Asking[Reply] = _metadata(target)
    return metadata_of(driver.ask(steps, "the model's metadata"))


def _metadata(target: Target) -> Asking[Reply]:
    reply: Reply = yield target.get(target.about)
    return reply


def _with_rows(target: Target, options: Options, layout: Layout | None) -> Target:
    """The target with the rows of the files, as the model's inputs have them."""
    if options.data is None and options.holdout is not None:
        raise AttackError("--holdout goes with --data: rows that the model was trained on, and rows that it was not")
    if options.data is None:
        return replace(target, layout=layout)
    known = layout
    layout, data = _rows(options.data, options, known)
    holdout = None if options.holdout is None else _rows(options.holdout, options, layout)[1]
    return replace(target, layout=layout, data=data, holdout=holdout)


def _rows(path: Path, options: Options, layout: Layout | None) -> tuple[Layout, Rows]:
    names = [name for part in layout.parts for name in part.names] if layout else []
    assumed = names if layout and len(names) == layout.width else ()
    label = options.label
    try:
        if path.stat().st_size > _MAX_DATA:
            raise AttackError(f"{path}: more than {_MAX_DATA >> 20} MiB; some hundred rows are enough")
        content = path.read_bytes()
        known = [
            Column(name, kind)
            for part in (layout.parts if layout else ())
            for name, kind in zip(part.names, part.texts, strict=False)
            if kind
        ]
        read = table.read(content, path.suffix, (), assumed, {label} if label else (), known, texts=True)
        layout = layout or _plain(options, len(read.kinds))
        layout, rows = layout.fitted(read)
        truth = None if label is None else _truth(content, path, label, assumed)
    except OSError as error:
        raise AttackError(f"{path}: {error.strerror}") from error
    except (table.TableError, LayoutError) as error:
        raise AttackError(f"{path}: {error}") from error
    whole = np.isfinite(rows).all(axis=1)
    kept = np.flatnonzero(whole)
    if len(kept) > MAX_ROWS:
        kept = np.sort(np.random.default_rng(options.seed).permutation(kept)[:MAX_ROWS])
    return layout, Rows(rows[kept], None if truth is None else truth[kept])


def _plain(options: Options, width: int) -> Layout:
    """For data without a known input: V1's rows need no name."""
    if options.protocol != "v1":
        raise LayoutError(
            "the model's inputs are not known: give its manifest with -f, or let the caller read its metadata"
        )
    return Layout("v1", (Part("instances", "FP64", (width,)),))


def _truth(content: bytes, path: Path, label: str, assumed: Sequence[str]) -> npt.NDArray[np.str_]:
    """The column of true labels, as texts."""
    read = table.read(content, path.suffix, (label,), assumed, texts=True)
    kind, column = read.kinds[0], read.rows[:, 0]
    if kind.categories is not None:
        return np.array([kind.categories[int(place)] if np.isfinite(place) else "" for place in column])
    return np.array([f"{number:.0f}" if number == round(number) else repr(float(number)) for number in column])
