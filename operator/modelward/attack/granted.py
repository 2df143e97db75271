"""Requests of which none should be granted, and what is found where one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelward.attack.exchange import Finding, Reply, Request, Steps

_SHOWN = 6  # attempts that the evidence names


def granted(asked: Iterable[tuple[str, Request]], *, let_in: bool = True) -> Steps:
    """Ask each; the attack succeeds where one of them is granted.

    Args:
        asked: what each is, and the request.
        let_in: whether it is enough to get past authentication, though the input is refused.
    """
    seen: list[tuple[str, Reply]] = []
    for what, request in asked:
        reply = yield request
        seen.append((what, reply))
    return judged(seen, let_in=let_in)


def judged(seen: Sequence[tuple[str, Reply]], *, let_in: bool = True) -> Finding:
    """What came of requests of which none should be granted; measured is how many were."""
    through = [(what, reply) for what, reply in seen if (reply.let_in if let_in else reply.good)]
    if through:
        named = ", ".join(f"{what} ({reply.told})" for what, reply in through[:_SHOWN])
        more = f" and {len(through) - _SHOWN} more" if len(through) > _SHOWN else ""
        return Finding("Succeeded", f"{len(through)} of {len(seen)} got through: {named}{more}", len(through), 0)
    if not any(reply.status for _, reply in seen) and all(reply.trouble == "timeout" for _, reply in seen):
        return Finding("Inconclusive", f"none of {len(seen)} was answered in time", 0, 0)
    return Finding("Withstood", f"0 of {len(seen)} got through; answers: {counted(seen)}", 0, 0)


def counted(seen: Sequence[tuple[str, Reply]]) -> str:
    """How often each answer came."""
    told = [reply.told for _, reply in seen]
    return ", ".join(f"{one} x{told.count(one)}" for one in sorted(set(told)))
