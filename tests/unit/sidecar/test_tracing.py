"""Trace context: what fits the W3C recommendation is passed on, and nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar.tracing import trace_of
from tests.unit.sidecar.harness import infer

TRACE, PARENT = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-%b-%b-01" % (TRACE, PARENT)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + b"-extra",  # version 00 has four parts
        b"ff" + GOOD[2:],
        b"00-%b-%b-01" % (b"0" * 32, PARENT),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-0g" % (TRACE, PARENT),
        b" " + GOOD,
        GOOD + b", " + GOOD,
        b"jane.roe@example.org",
    ],
)
def test_a_traceparent_that_does_not_fit_is_not_passed_on(value):
    header = {b"traceparent": value, b"tracestate": b"a=1"}
    assert trace_of(header, own=False) is None
    begun = trace_of(header, own=True)
    assert begun.parent == begun.state == b""
    assert re.fullmatch(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\r\n", begun.header())


def test_versions_to_come_are_read_as_far_as_they_are_known_and_written_as_ours():
    trace = trace_of({b"traceparent": b"01-%b-%b-ff-what-ever" % (TRACE, PARENT)}, own=False)
    assert trace.header() == b"traceparent: 00-%b-%b-01\r\n" % (TRACE, PARENT)
    assert trace_of({b"traceparent": GOOD[:-1] + b"2"}, own=False).flags == b"00"


@pytest.mark.parametrize(
    ("state", "passes"),
    [
        (b"a=1", True),
        (b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", True),
        (b"fw529a3039@dt=FfffffX, ,b=2", True),
        (b"a=1 , b=2", True),
        (b"a=1,a=2", False),
        (b"A=1", False),
        (b"a", False),
        (b"a=", False),
        (b"=1", False),
        (b"a=1;b=2=3", False),
        (b"a=\xc3\xa9", False),
        (b"a=" + b"x" * 257, False),
        (b",".join(b"k%d=v" % each for each in range(33)), False),
        (b",".join(b"key%d=%b" % (each, b"v" * 20) for each in range(30)), False),  # too long
    ],
)
def test_a_tracestate_goes_along_if_it_fits(state, passes):
    trace = trace_of({b"traceparent": GOOD, b"tracestate": state}, own=False)
    assert trace.state == (state if passes else b"")


@given(st.binary(max_size=80), st.binary(max_size=600))
def test_whatever_comes_what_goes_on_is_two_well_formed_fields(parent, state):
    trace = trace_of({b"traceparent": parent, b"tracestate": state}, own=True)
    assert re.fullmatch(
        rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\r\n(tracestate: [ -~\t]{1,512}\r\n)?", trace.header()
    )


def test_without_a_collector_the_callers_context_goes_on_as_it_came(running):
    header = {"traceparent": GOOD.decode(), "tracestate": "a=1"}
    running.ask(infer(), header=header)
    running.ask(infer(), header={"traceparent": "jane.roe", "tracestate": "a=1"})
    first, second = running.model.asked
    assert {name: first.header[name] for name in header} == header
    assert not {"traceparent", "tracestate"} & set(second.header)
