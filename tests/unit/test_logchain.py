"""The access log's chain: what is done to a log shows, and what the sidecar tells of is no tampering."""

from __future__ import annotations

import json
import os
import threading

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from modelward.cli.main import cli
from modelward.logchain import Linker, split, verify
from modelward.sidecar.access_log import AccessLog, FileTarget
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.record import Record


def a_log(records: int = 10) -> list[bytes]:
    lines = [b'{"start":{"random":"1"}}', *(b'{"request":"r-%d"}' % each for each in range(records)), b'{"end":{}}']
    return Linker().link(lines)


def found(lines: list[bytes], **options) -> list[tuple[int, str]]:
    return [(one.line, one.kind) for one in verify(lines, **options).findings]


def test_a_log_as_it_was_written_holds():
    verdict = verify(a_log(), whole=True)
    assert (verdict.findings, verdict.notes) == ([], [])
    assert (verdict.lines, verdict.records, verdict.processes, verdict.ended) == (12, 10, 1, True)


def test_a_line_taken_away_shows_with_how_many_are_missing():
    lines = a_log()
    del lines[3:6]
    (finding,) = verify(lines).findings
    assert (finding.line, finding.kind, finding.missing) == (4, "missing", 3)
    assert "between 2 and 6" in finding.message


@given(st.integers(0, 11), st.data())
def test_one_character_changed_anywhere_shows(index, data):
    lines = a_log()
    line = bytearray(lines[index])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(33, 126).filter(lambda other: other != line[at]))
    lines[index] = bytes(line)
    verdict = verify(lines, whole=True)
    assert verdict.findings
    assert {one.line for one in verdict.findings} & {index + 1, index + 2}


@given(st.permutations(range(6)))
def test_lines_in_another_order_show(order):
    lines = a_log(4)
    assert bool(found([lines[each] for each in order], whole=True)) == (list(order) != list(range(6)))


def test_a_line_put_in_twice_or_made_up_shows():
    lines = a_log()
    assert found([*lines[:5], lines[4], *lines[5:]])
    assert found([*lines[:5], b'{"request":"r-x"}', *lines[5:]]) == [(6, "unlinked")]
    assert found([*lines[:5], b"hello", *lines[5:]]) == [(6, "unreadable")]


def test_a_cut_beginning_or_end_is_said_and_is_a_finding_where_the_whole_is_asked_for():
    lines = a_log()
    assert found(lines[3:-2]) == []
    assert len(verify(lines[3:-2]).notes) == 2
    assert [kind for _, kind in found(lines[3:-2], whole=True)] == ["beginning", "unended"]


def test_rewriting_everything_after_a_change_shows_by_a_line_noted_elsewhere():
    lines = a_log()
    noted = json.loads(lines[7])
    forged = Linker().link(line.replace(b"r-2", b"r-9").rpartition(b',"seq"')[0] + b"}" for line in lines)
    assert found(forged) == []  # not keyed: whoever rewrites all of it is not seen by the chain alone
    assert found(forged, anchors=[(7, noted["chain"])]) == [(12, "anchor")]
    assert found(lines, anchors=[(7, noted["chain"])]) == []


def test_several_processes_one_after_another():
    assert found(a_log(3) + a_log(4), whole=True) == []
    assert [kind for _, kind in found(a_log(3)[:-1] + a_log(4), whole=True)] == ["unended"]
    assert verify(a_log(3)[:-1] + a_log(4)).notes


def drops_and_failures() -> bytes:
    """A pipe that fills: some records are dropped; then everything flows again."""
    count = Instruments().telemetry
    reading, writing = os.pipe()
    log = AccessLog(FileTarget(writing), count, max_pending=1000)
    log.begin(pod="p")
    for _ in range(5):
        for each in range(600):
            log.append(Record("t", f"r-{each}"))
        log.flush()
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(reading, 65536), b"")))
    reader.start()
    log.close()
    os.close(writing)
    reader.join()
    os.close(reading)
    assert count.value("access-log", "dropped") > 0
    return b"".join(parts)


def test_what_is_dropped_is_told_in_the_chain():
    written = drops_and_failures()
    verdict = verify(split([written]), whole=True)
    assert verdict.findings == []
    assert verdict.dropped > 0
    assert verdict.records + verdict.dropped == 3000


class Torn:
    """A sink that takes some bytes and then fails, now and then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content = b""
        self.room: list[int | None] = []  # bytes until it fails, None: takes all; a call each
        monkeypatch.setattr("modelward.sidecar.access_log.os.write", self.write)

    def write(self, _: int, data: memoryview) -> int:
        room = self.room[0] if self.room else None
        if room is None:
            self.room[:1] = []
            self.content += bytes(data)
            return len(data)
        if room == 0:
            self.room.pop(0)
            raise OSError(28, "No space left on device")
        self.room[0] = 0
        self.content += bytes(data[:room])
        return min(room, len(data))


@given(st.lists(st.one_of(st.none(), st.integers(0, 700)), max_size=6))
def test_wherever_a_sink_fails_the_log_tells_what_is_missing(room):
    with pytest.MonkeyPatch.context() as patch:
        sink = Torn(patch)
        sink.room = list(room)
        count = Instruments().telemetry
        log = AccessLog(FileTarget(-1), count)
        log.begin(pod="p")
        for batch in range(8):
            for each in range(4):
                log.append(Record("t", f"r-{batch}-{each}"))
            log.flush()
        log.close()
    told = {outcome: count.value("access-log", outcome) for outcome in ("sent", "dropped", "failed")}
    assert sum(told.values()) == 32
    verdict = verify(split([sink.content]))
    assert verdict.findings == []
    if verdict.ended:
        assert verdict.failed == told["failed"]


def run(*arguments: str, text: bytes = b""):
    return CliRunner().invoke(cli, ["verify-log", *arguments], input=text)


def test_the_command(tmp_path):
    lines = a_log()
    file = tmp_path / "log"
    file.write_bytes(b"\n".join(lines) + b"\n")
    result = run(str(file), "--whole")
    assert (result.exit_code, result.output) == (0, "intact: 12 lines, 10 records, 1 start of a sidecar\n")
    del lines[4]
    result = run("-", text=b"\n".join(lines))
    assert result.exit_code == 1
    assert "line 5: missing: 1 record is missing between 3 and 5" in result.output
    assert "BROKEN: 1 findings, 1 lines missing" in result.output
    document = json.loads(run("-", "-o", "json", text=b"\n".join(lines)).output)
    assert document["findings"][0]["missing"] == 1


@pytest.mark.parametrize("text", [b"", b"\n\n", b"no log\n", b'{"request":"1"}\n', b"\xff\xfe" * 100_000])
def test_what_is_no_log_is_exit_2(text):
    result = run("-", text=text)
    assert result.exit_code == 2
    assert "no access log of modelward" in result.output


def test_a_file_that_is_not_there_and_a_bad_anchor_are_exit_2(tmp_path):
    assert run(str(tmp_path / "none")).exit_code == 2
    assert run("-", "--anchor", "x").exit_code == 2
