"""Holds lineage annotations against signed statements: which of them somebody who is trusted answers for.

What is compared: the digest that an annotation ends in (`@sha256:<64 hex digits>`) with every digest of a statement's
subjects (`statement.Statement.digests`). For a model or data set that is one file, that is the file's own SHA-256; for
a folder, model-signing's digest over the digests of its files; for what lies in a registry, its manifest's, where a
statement has that as its subject.

A data set is answered for as well where a trusted statement about the model names it among its sources, over as many
statements as it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from modelward.lineage.bundle import Bundle, read_bundles
from modelward.lineage.outcome import Judged, Outcome, Result
from modelward.lineage.reading import StatementError, shown
from modelward.lineage.statement import Statement, read_statement
from modelward.lineage.trust import Trust, signers
from modelward.wording import names

MAX_FILES = MAX_STATEMENTS = 32
MAX_SIGNATURES = 64
"""Of all statements together: each may be tried with every key that the policy names."""
ANNOTATIONS = ("model", "dataset")
"""The annotations that name something by its digest."""


class File(NamedTuple):
    """A file with statements: its name, where it is, for people, and its bytes."""

    name: str
    place: str
    content: bytes


class Read(NamedTuple):
    """What files hold: statements in their bundles, by the place of the file; and what of it cannot be read."""

    statements: tuple[tuple[str, Bundle, Statement], ...]
    unread: tuple[Result, ...]


def read(files: Sequence[File]) -> Read:
    """Read files with statements. What cannot be read keeps nothing else from being read; too many are not read."""
    if len(files) > MAX_FILES:
        why = f"{len(files):,} files with statements, and {MAX_FILES} are read: name fewer"
        return Read((), (Result("", "StatementMalformed", why),))
    unread: list[Result] = []
    bundles: list[tuple[str, Bundle]] = []
    for file in files:
        try:
            bundles += ((file.place, bundle) for bundle in read_bundles(file.name, file.content))
        except StatementError as error:
            unread.append(Result("", "StatementMalformed", f"{file.place} {error}"))
    if len(bundles) > MAX_STATEMENTS or sum(len(one.envelope.signatures) for _, one in bundles) > MAX_SIGNATURES:
        why = f"more than {MAX_STATEMENTS} statements or {MAX_SIGNATURES} signatures: name fewer"
        return Read((), (*unread, Result("", "StatementMalformed", why)))
    found = []
    for place, bundle in bundles:
        try:
            found.append((place, bundle, read_statement(bundle.envelope.payload)))
        except StatementError as error:
            unread.append(Result("", "StatementMalformed", f"{place}: its statement's {error}"))
    return Read(tuple(found), tuple(unread))


def verify(
    digests: Mapping[str, str],
    transformations: Sequence[Mapping[str, str]] | None,
    told: Read,
    trust: Trust,
    accepted: Sequence[str],
    at: datetime,
) -> Outcome:
    """Hold annotations against statements.

    Args:
        digests: SHA-256 in hex by the short name of the annotation that ends in it; empty where it ends in none.
        transformations: what the annotation `transformations` says; None where it is not there.
        told: the statements that there are, from `read`.
        trust: whom the policy's platform team believes.
        accepted: those of them whom the policy accepts, such as `key:ml-platform`.
        at: the time at which certificates must be valid.
    """
    judged = [_judged(*one, trust, frozenset(accepted), at) for one in told.statements]
    trusted = [one for one in judged if one.accepted]
    reached = {}
    for name in ANNOTATIONS:
        reached[name], cycle = _reached(digests.get(name, ""), trusted)
        if cycle:
            return Outcome((Result(name, "Cyclic", cycle),), tuple(reached[name]))
    of_model = reached["model"]
    results = []
    for name, digest in digests.items():
        about = [one for one in trusted if digest in one.statement.digests]
        if name == "dataset":
            about = about or [one for one in of_model if digest in one.sources]
        if not digest or not about:
            results.append(_unsigned(name, digest, judged, trusted, told.unread, frozenset(digests.values())))
        else:
            names = tuple(dict.fromkeys(name for one in about for name in one.accepted))
            results.append(Result(name, "Signed", f"signed by {', '.join(names)}", names))
    results += _contradictions(digests, transformations, of_model)
    return Outcome(tuple(results), tuple({id(one): one for one in (*of_model, *reached["dataset"])}.values()))


def _judged(
    place: str, bundle: Bundle, statement: Statement, trust: Trust, accepted: frozenset[str], at: datetime
) -> Judged:
    who = signers(bundle, trust, accepted, at)
    return Judged(place, statement, who, tuple(name for name in who.names if name in accepted))


def _reached(digest: str, trusted: Sequence[Judged]) -> tuple[list[Judged], str]:
    """The statements about a digest, about its sources, and so on; and where they lead back to themselves, how.

    Depth first, without recursion; each statement is entered once, and its sources looked up once.
    """
    by_digest: dict[str, list[int]] = {}
    for index, one in enumerate(trusted):
        for known in one.statement.digests:
            by_digest.setdefault(known, []).append(index)

    def below(index: int) -> Iterator[int]:
        return (place for source in trusted[index].statement.sources for place in by_digest.get(source.sha256, ()))

    found: dict[int, bool] = {}  # whether all below it was looked at
    for start in by_digest.get(digest, ()):
        if start in found:
            continue
        found[start] = False
        path = [(start, below(start))]
        while path:
            index, rest = path[-1]
            following = next(rest, None)
            if following is None:
                found[index] = True
                path.pop()
            elif following not in found:
                found[following] = False
                path.append((following, below(following)))
            elif not found[following]:  # it is on the path
                places = [place for place, _ in path]
                loop = [*places[places.index(following) :], following]
                return [trusted[place] for place in found], _told([trusted[place] for place in loop])
    return [trusted[place] for place in found], ""


def _told(loop: Sequence[Judged]) -> str:
    names = [f"{one.subject} of {one.place}" for one in loop]
    middle = names if len(names) <= 5 else [*names[:3], f"{len(names) - 4} more", names[-1]]
    return f"the lineage leads back to where it began: {', which comes of '.join(middle)}"


def _unsigned(
    name: str,
    digest: str,
    judged: Sequence[Judged],
    trusted: Sequence[Judged],
    unread: Sequence[Result],
    wanted: frozenset[str],
) -> Result:
    """Why nobody who is accepted answers for an annotation."""
    if not digest:
        why = "ends in no @sha256:<64 hex digits>, and statements are about digests"
        return Result(name, "DigestMissing", why)
    for one in judged:
        if digest in one.statement.digests and one.signers.reason:
            return Result(name, one.signers.reason, f"{one.place} {one.signers.why}")
        if digest in one.statement.digests:
            who = ", ".join(one.signers.names)
            return Result(
                name, "SignerNotTrusted", f"{one.place} is signed by {shown(who)}, whom the policy does not name"
            )
    if unread:
        return Result(name, "StatementMalformed", unread[0].message)
    others = [one for one in trusted if not one.statement.digests & wanted]
    if others:
        about = _few(one.subject for one in others)
        return Result(name, "DigestMismatch", f"names sha256:{digest[:12]}, and what was signed is {about}")
    return Result(name, "StatementMissing", f"no statement is about sha256:{digest[:12]}")


def _contradictions(
    digests: Mapping[str, str],
    transformations: Sequence[Mapping[str, str]] | None,
    of_model: Sequence[Judged],
) -> Iterator[Result]:
    """What accepted signers say otherwise than the annotations do.

    The annotation tells what was done from the data set to the model; how the data set was made is another matter.
    """
    model, dataset = digests.get("model"), digests.get("dataset")
    direct = [one for one in of_model if model in one.statement.digests]
    whole = next((one for one in direct if one.statement.sources_whole), None)
    if dataset and whole and not any(dataset in one.sources for one in of_model):
        told = _few(f"{source.name or '(no name)'} (sha256:{source.sha256[:12]})" for source in whole.statement.sources)
        why = f"{whole.place} says that the model was made of {told or 'nothing'}, not of sha256:{dataset[:12]}"
        yield Result("dataset", "DigestMismatch", why)
    for one in direct:
        if one.statement.transformations is None:
            continue
        if transformations is not None and list(one.statement.transformations) != list(transformations):
            why = f"{one.place}, signed by {', '.join(one.accepted)}, tells other transformations"
            yield Result("transformations", "TransformationsDiffer", why)
        return


def _few(items: Iterable[str]) -> str:
    return names(dict.fromkeys(items), 3)
