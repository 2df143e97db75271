"""CEL, evaluated so that it fails closed.

`cel-expr-python` gives an evaluation error back as a *value* whose Python form is a truthy string. So only the boolean
`true` ever counts as true here, and every error is raised.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

VARIABLES = ("object", "oldObject", "params", "namespaceObject", "request", "variables", "observed", "self")
_PLACE = re.compile(r"^ERROR: <input>:(\d+):(\d+): ")
_ENVIRONMENT = cel.NewEnv(variables=dict.fromkeys(VARIABLES, cel.Type.DYN), extensions=[ext_strings.ExtStrings()])


class CelError(Exception):
    """An expression that does not compile, or that could not be evaluated on what it was given."""


class Expression:
    """A compiled CEL expression; compile once, evaluate often (a few microseconds)."""

    def __init__(self, text: str) -> None:
        """Compile.

        Raises:
            CelError: it is not CEL, or uses a name or a macro that is not to be had in both evaluators.
        """
        self.text = text
        try:
            self._compiled = _ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise CelError(_first_line(str(error))) from None

    @staticmethod
    @cache
    def compiled(text: str) -> Expression:
        """Return the expression for a text of our own, compiled once for the process."""
        return Expression(text)

    def value(self, data: dict[str, Any] | Activation) -> Any:
        """Evaluate.

        Args:
            data: the variables, or an `Activation` of them that many expressions share.

        Raises:
            CelError: evaluation failed, such as for a key that is not there.
        """
        activation = data.native if isinstance(data, Activation) else Activation(data).native
        try:
            result = self._compiled.eval(activation)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CelError(_first_line(str(error))) from None
        if result.type() in (cel.Type.ERROR, cel.Type.UNKNOWN):
            raise CelError(_first_line(str(result.value())))
        return result.plain_value()

    def holds(self, data: dict[str, Any] | Activation) -> bool:
        """Tell whether the expression is the boolean true.

        Raises:
            CelError: evaluation failed, or gave something that is not a boolean.
        """
        value = self.value(data)
        if not isinstance(value, bool):
            raise CelError(f"gives {type(value).__name__}, not a boolean")
        return value

    def text_of(self, data: dict[str, Any] | Activation) -> str:
        """Return the string that the expression gives.

        Raises:
            CelError: evaluation failed, or gave something that is not a string.
        """
        value = self.value(data)
        if not isinstance(value, str):
            raise CelError(f"gives {type(value).__name__}, not a string")
        return value


class Activation:
    """Variables bound once for many expressions: converting them costs more than most evaluations."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.native = _ENVIRONMENT.Activation({**dict.fromkeys(VARIABLES), **data})


def _first_line(text: str) -> str:
    line = text.removeprefix("INVALID_ARGUMENT: ").split("\n", 1)[0][:300]
    return _PLACE.sub(lambda place: f"at column {place[2]}: " if place[1] == "1" else f"at line {place[1]}: ", line)
