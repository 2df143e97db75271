"""The hash chain of the access log: how a line is linked to the one before it, and how a reader tries the links.

A line is a JSON object whose last two members are its number and its link:

    {...,"seq":7,"chain":"<base64>"}     chain = SHA-256(chain of line 6, 32 bytes || the line up to `,"chain"`)

The first line of each process is number 0, has a random part, and follows on 32 zero bytes. A line that tells of a gap
(records that were dropped or could not be written) says on which line it follows: the numbers between are excused.

The links are not keyed. A key would have to lie in the pod, beside the data; whoever could take the log over could take
it as well, and whoever reads the log could no longer try it. So what the chain shows is a change by anyone who cannot
rewrite *everything after it*: a single line noted elsewhere (its number and chain) vouches for all lines before it.
"""

import binascii
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import msgspec

FORMAT = 1
BEFORE_THE_FIRST = bytes(32)
MAX_LINE_BYTES = 64 << 10
_CHUNK = 1 << 20
_REMEMBERED = 65_536  # lines that a gap may reach back: more than a sidecar ever holds
_LINKED = re.compile(rb',"seq":(\d{1,18}),"chain":"([A-Za-z0-9+/]{43}=)"\}$')


class Linker:
    """Adds numbers and links to lines, in their order."""

    def __init__(self) -> None:
        self.seq = -1
        self.chain = BEFORE_THE_FIRST

    def link(self, lines: Iterable[bytes], after: bytes | None = None) -> list[bytes]:
        """Return `lines`, each a JSON object with at least one member, linked; the first on `after` if given."""
        chain, seq = self.chain if after is None else after, self.seq
        sha256, base64 = hashlib.sha256, binascii.b2a_base64
        linked = []
        for line in lines:
            seq += 1
            text = b'%b,"seq":%d' % (line[:-1], seq)
            chain = sha256(chain + text).digest()
            linked.append(b'%b,"chain":"%b"}' % (text, base64(chain, newline=False)))
        self.chain, self.seq = chain, seq
        return linked


Kind = Literal["changed", "missing", "order", "unlinked", "unreadable", "beginning", "unended", "anchor"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold. `line` counts from 1 over all that was read; `missing` counts lines."""

    line: int
    kind: Kind
    message: str
    missing: int = 0


@dataclass(slots=True)
class Verdict:
    """What a log was found to be. Told gaps are counted in records, and are no findings."""

    lines: int = 0
    records: int = 0
    processes: int = 0
    dropped: int = 0
    failed: int = 0
    begins_at: int | None = None  # number of the very first line
    ended: bool = False  # the last process said that it ends
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(lines: Iterable[bytes], *, whole: bool = False, anchors: Iterable[tuple[int, str]] = ()) -> Verdict:
    """Try every link of a log, which may hold several processes' chains one after another.

    Args:
        lines: without their line feeds.
        whole: also ask that each chain begins with its first line and ends with its last.
        anchors: numbers and chains noted elsewhere; each must be found.
    """
    reader = _Reader(set(anchors), whole=whole)
    for line in lines:
        reader.read(line)
    reader.finish()
    return reader.verdict


class _Reader:
    def __init__(self, anchors: set[tuple[int, str]], *, whole: bool) -> None:
        self.verdict = Verdict()
        self._anchors = anchors  # those not found yet
        self._whole = whole
        self._seq = -1
        self._chain: bytes | None = None  # None: what comes before is not known
        self._links: OrderedDict[int, bytes] = OrderedDict()
        self._random: object = None  # of the process
        self._gaps: list[tuple[int, int, int]] = []  # told of by the process: number, dropped, failed
        self._torn: list[int] = []  # lines that could not be read: a gap right after them may explain them

    def read(self, line: bytes) -> None:
        """Try one line."""
        verdict = self.verdict
        verdict.lines += 1
        linked = _LINKED.search(line)
        document = _decoded(line)
        if linked is None or document is None:
            self._unlinked(document)
            return
        seq, text, chain = int(linked[1]), line[: linked.start(2) - len(b',"chain":"')], binascii.a2b_base64(linked[2])
        if verdict.begins_at is None:
            verdict.begins_at = seq
        if seq == 0 or "start" in document:
            self._begin(seq, document.get("start"))
        self._place(seq, document)
        if self._chain is not None and hashlib.sha256(self._chain + text).digest() != chain:
            before = "" if seq == 0 else f", or line {verdict.lines - 1} before it"
            self._find("changed", f"record {seq} does not follow from the one before it: it was changed{before}")
        self._settle_torn()
        self._count(seq, document)
        self._seq, self._chain = seq, chain
        self._links[seq] = chain
        if len(self._links) > _REMEMBERED:
            self._links.popitem(last=False)
        self._anchors.discard((seq, linked[2].decode()))

    def finish(self) -> None:
        """Nothing more comes."""
        verdict = self.verdict
        self._settle_torn()
        if not verdict.lines:
            return
        if verdict.begins_at not in (0, None):
            self._wholly("beginning", f"the log begins at record {verdict.begins_at}: what was before is not here", 1)
        if not verdict.ended:
            self._wholly("unended", "the last process did not say that it ends: it runs, was killed, or lines are cut")
        for seq, chain in sorted(self._anchors):
            self._find("anchor", f"record {seq} with chain {chain} is not here, or is another")

    def _begin(self, seq: int, start: object) -> None:
        """A process begins, or says its first line again because it does not know whether it was written."""
        verdict = self.verdict
        start = start if isinstance(start, dict) else {}
        if start.get("again") is True:
            self._torn.clear()
        if verdict.processes and start.get("again") is True and start.get("random") == self._random:
            self._forget_gaps(-1)
        else:
            if verdict.processes and not verdict.ended:
                self._wholly("unended", "the process before did not say that it ends: it was killed, or lines are cut")
            verdict.processes += 1
        self._random = start.get("random")
        self._gaps.clear()
        verdict.ended = False
        self._links.clear()
        self._chain, self._seq = BEFORE_THE_FIRST, -1
        if seq != 0:
            self._find("order", f"a process begins with record {seq}, not 0")

    def _place(self, seq: int, document: dict[str, Any]) -> None:
        """Where the line stands among the others; sets what it has to follow on."""
        gap = document.get("gap")
        if isinstance(gap, dict) and isinstance(gap.get("after"), int) and self._chain is not None:
            after = gap["after"]
            if after in self._links:
                self._torn.clear()  # what could not be read was being written when the sink failed: told of here
                self._forget_gaps(after)
                self._chain, self._seq = self._links[after], seq - 1
                return
        missing = seq - self._seq - 1
        if self._chain is None:
            return
        if missing > 0:
            one = missing == 1
            self._find(
                "missing",
                f"{missing} {'record is' if one else 'records are'} missing between {self._seq} and {seq}",
                missing,
            )
            self._chain = None
        elif missing < 0:
            self._find("order", f"record {seq} comes after {self._seq}: lines were reordered or put in twice")
            self._chain = self._links.get(seq - 1)

    def _unlinked(self, document: dict[str, Any] | None) -> None:
        if document is None:
            self._torn.append(self.verdict.lines)
        else:
            self._settle_torn()
            self._find("unlinked", "the line has no number and chain: it was not written by the sidecar")

    def _settle_torn(self) -> None:
        for line in self._torn:
            self._find("unreadable", "the line is not a JSON object", line=line)
        self._torn.clear()

    def _forget_gaps(self, after: int) -> None:
        """What was told after that number is told again: it counts once."""
        while self._gaps and self._gaps[-1][0] > after:
            _, dropped, failed = self._gaps.pop()
            self.verdict.dropped -= dropped
            self.verdict.failed -= failed

    def _count(self, seq: int, document: dict[str, Any]) -> None:
        verdict = self.verdict
        verdict.records += "request" in document
        verdict.ended = verdict.ended or "end" in document
        gap = document.get("gap")
        if isinstance(gap, dict):
            dropped, failed = _number(gap, "dropped"), _number(gap, "failed")
            verdict.dropped += dropped
            verdict.failed += failed
            self._gaps.append((seq, dropped, failed))

    def _wholly(self, kind: Kind, message: str, line: int | None = None) -> None:
        if self._whole:
            self._find(kind, message, line=line)
        else:
            self.verdict.notes.append(message)

    def _find(self, kind: Kind, message: str, missing: int = 0, line: int | None = None) -> None:
        self.verdict.findings.append(Finding(line or self.verdict.lines, kind, message, missing))


def chunks(*files: IO[bytes]) -> Iterator[bytes]:
    """Read files one after another, in pieces for `split`. Raises OSError."""
    for file in files:
        while chunk := file.read(_CHUNK):
            yield chunk


def split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines from chunks; what is longer than `MAX_LINE_BYTES` comes cut, and is then no line of ours."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line[:MAX_LINE_BYTES] for line in lines)
        rest = rest[:MAX_LINE_BYTES]
    if rest:
        yield rest


def watched(lines: Iterable[bytes], look: Callable[[dict[str, Any]], None]) -> Iterator[bytes]:
    """Pass lines on, and have `look` see each that is a JSON object: one pass over a log for all who read it."""
    for line in lines:
        document = _decoded(line)
        if document is not None:
            look(document)
        yield line


def _number(gap: dict[str, Any], name: str) -> int:
    value = gap.get(name, 0)
    return value if isinstance(value, int) else 0


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
