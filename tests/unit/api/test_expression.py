from __future__ import annotations

import pytest

from modelward.api.expression import CelError, Expression


def test_an_error_is_never_true() -> None:
    # The library gives an evaluation error back as a value whose Python form is a truthy string.
    for text in ("object.nowhere", "object.a.b.c", "timestamp('x') > timestamp('y')", "[1][5] == 1", "1 / 0 == 1"):
        with pytest.raises(CelError):
            Expression(text).holds({"object": {}})


@pytest.mark.parametrize("text", ["'true'", "1", "[true]", "null", "{'a': true}"])
def test_only_a_boolean_is_a_verdict(text: str) -> None:
    with pytest.raises(CelError, match="not a boolean"):
        Expression(text).holds({})


@pytest.mark.parametrize("text", ["1 +", "unknown_variable", "object.?a", "", "f(1)"])
def test_what_is_not_cel_is_told_when_it_is_compiled(text: str) -> None:
    with pytest.raises(CelError):
        Expression(text)


def test_absent_variables_are_null() -> None:
    assert Expression("oldObject == null").holds({"object": {}})
