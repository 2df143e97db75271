"""What a signed statement says: in-toto Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1).

Three kinds of statement tell of lineage; others (of tests, of licences, of weaknesses) vouch for nothing here, whoever
signed them:

- OpenSSF model-signing (`https://model_signing/signature/v1.0`): the files that a model or a data set consists of. Its
  subject's digest is SHA-256 over the raw digests of its files, in the order in which they are listed.
- SLSA provenance v1 (`https://slsa.dev/provenance/v1`): what an artefact was made of, as `resolvedDependencies`. SLSA
  does not promise that the list is whole.
- modelward's lineage (`https://modelward.io/lineage/v1`): `{"sources": [resource, ...], "transformations": [{"what",
  "how", "why"}, ...]}`, each of them optional. Where sources are told, they are all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from modelward.lineage.reading import StatementError, is_sha256, member, optional, read_object, shown

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MODEL_SIGNING = "https://model_signing/signature/v1.0"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
LINEAGE = "https://modelward.io/lineage/v1"
MAX_SUBJECTS = 128
MAX_SOURCES = 1024
MAX_FILES = 8192
MAX_STEPS = 64
_STEP_KEYS = {"what", "how", "why"}
_MAX_FILE_DIGEST = 128  # hex digits: 512 bits


@dataclass(frozen=True)
class Resource:
    """A thing that a statement is about, or names as a source: what it calls it, and its SHA-256 in hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Statement:
    """A statement about where something comes from.

    Attributes:
        predicate_type: one of the three above.
        subjects: what it is about.
        digests: under which its subjects are known: their own and, where one is a single file, the file's.
        sources: what the subjects were made of.
        sources_whole: whether those are all.
        transformations: what was done on the way; None where it does not say.
    """

    predicate_type: str
    subjects: tuple[Resource, ...]
    digests: frozenset[str]
    sources: tuple[Resource, ...] = ()
    sources_whole: bool = False
    transformations: tuple[dict[str, str], ...] | None = None


def read_statement(payload: bytes) -> Statement:
    """Read a statement of one of the three kinds.

    Raises:
        StatementError: it is none.
    """
    found = read_object(payload)
    if found.get("_type") != STATEMENT_TYPE:
        raise StatementError(f"_type is not {STATEMENT_TYPE}")
    subjects = _resources(member(found, "subject", list), "subject", MAX_SUBJECTS)
    if not subjects:
        raise StatementError("subject names nothing with a digest.sha256")
    kind = member(found, "predicateType", str)
    predicate = optional(found, "predicate", dict)
    if kind == MODEL_SIGNING:
        return _model_signing(subjects, predicate)
    digests = frozenset(subject.sha256 for subject in subjects)
    if kind == SLSA_PROVENANCE:
        definition = optional(predicate, "buildDefinition", dict, "predicate.")
        path = "predicate.buildDefinition."
        listed = optional(definition, "resolvedDependencies", list, path)
        return Statement(kind, subjects, digests, _resources(listed, f"{path}resolvedDependencies", MAX_SOURCES))
    if kind == LINEAGE:
        return _lineage(subjects, digests, predicate)
    raise StatementError("predicateType is none that tells of lineage")


def _model_signing(subjects: tuple[Resource, ...], predicate: dict[str, Any]) -> Statement:
    if len(subjects) != 1:
        raise StatementError(f"subject names {len(subjects)} models, and model-signing signs one")
    files = member(predicate, "resources", list, "predicate.")
    if not 1 <= len(files) <= MAX_FILES:
        raise StatementError(f"predicate.resources holds {len(files):,} files, and must hold 1 to {MAX_FILES:,}")
    whole = hashlib.sha256()
    names = set()
    for index, file in enumerate(files):
        path = f"predicate.resources[{index}]"
        if not isinstance(file, dict):
            raise StatementError(f"{path} is not an object")
        names.add(member(file, "name", str, f"{path}."))
        member(file, "algorithm", str, f"{path}.")
        whole.update(_raw_digest(member(file, "digest", str, f"{path}."), path))
    if len(names) != len(files):
        raise StatementError("predicate.resources names a file twice")
    if whole.hexdigest() != subjects[0].sha256:
        raise StatementError("subject[0].digest.sha256 is not the digest over the files that predicate.resources lists")
    digests = {subjects[0].sha256}
    method = optional(predicate, "serialization", dict, "predicate.").get("method")
    if len(files) == 1 and method == "files" and files[0]["algorithm"] == "sha256" and is_sha256(files[0]["digest"]):
        digests.add(files[0]["digest"])
    return Statement(MODEL_SIGNING, subjects, frozenset(digests))


def _raw_digest(text: str, path: str) -> bytes:
    try:
        if len(text) <= _MAX_FILE_DIGEST and not any(character.isspace() for character in text):
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise StatementError(f"{path}.digest is not a digest in hex")


def _lineage(subjects: tuple[Resource, ...], digests: frozenset[str], predicate: dict[str, Any]) -> Statement:
    listed = optional(predicate, "sources", list, "predicate.")
    steps = predicate.get("transformations")
    if steps is not None:
        if not isinstance(steps, list) or len(steps) > MAX_STEPS:
            raise StatementError(f"predicate.transformations is not a list of at most {MAX_STEPS}")
        for index, step in enumerate(steps):
            if (
                not isinstance(step, dict)
                or set(step) != _STEP_KEYS
                or not all(isinstance(value, str) for value in step.values())
            ):
                raise StatementError(
                    f"predicate.transformations[{index}] is not an object of exactly what, how and why"
                )
    return Statement(
        LINEAGE,
        subjects,
        digests,
        _resources(listed, "predicate.sources", MAX_SOURCES),
        sources_whole="sources" in predicate,
        transformations=None if steps is None else tuple(steps),
    )


def _resources(listed: list[Any], path: str, limit: int) -> tuple[Resource, ...]:
    """The resource descriptors that have a SHA-256 digest: others are of kinds that no annotation can name."""
    if len(listed) > limit:
        raise StatementError(f"{path} holds {len(listed):,}, and may hold {limit:,}")
    found = []
    for index, one in enumerate(listed):
        where = f"{path}[{index}]."
        if not isinstance(one, dict):
            raise StatementError(f"{path}[{index}] is not an object")
        name = optional(one, "name", str, where) or optional(one, "uri", str, where)
        sha256 = optional(one, "digest", dict, where).get("sha256")
        if sha256 is None:
            continue
        if not is_sha256(sha256):
            raise StatementError(f"{where}digest.sha256 is not 64 lower-case hex digits")
        found.append(Resource(shown(name), sha256))
    return tuple(found)
