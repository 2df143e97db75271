"""The rate limit: whether asking and asking ends in a refusal (429)."""

from __future__ import annotations

from modelward.attack.exchange import Finding, SpentError, Steps
from modelward.attack.target import Target

HELD = 20  # refusals in a row, for who asks, after which there is nothing to see
LEAST = 100
"""Answered requests without which the lack of a limit is not told."""


def rate_limit(target: Target, before: int) -> Steps:
    """Ask an ordinary row until that is refused, or the budget is used up.

    Args:
        target: what is asked.
        before: how many requests were refused by 429 in the attacks before.
    """
    if before:
        return _seen(before)
    return _rate_limit(target)


def _seen(before: int) -> Steps:
    return Finding(
        "Withstood", f"{before} requests of the attacks before were refused with 429, and waited out", before, 0
    )
    yield  # a generator, as the others


def _rate_limit(target: Target) -> Steps:
    sent = held = 0
    body = target.content()
    try:
        while True:
            reply = yield target.infer(body)._replace(patient=False)
            sent += 1
            held = 0 if reply.let_in or reply.status == 429 else held + 1
            if held >= HELD:
                told = f"the caller is refused what is ordinary ({reply.told}): there is no rate to limit"
                if target.data is None:  # what stands for an ordinary row may be none to the detectors
                    return Finding("Skipped", f"{told}; rows as callers send them are needed: --data")
                return Finding("Inconclusive", told)
            if reply.status == 429:
                after = reply.headers.get("retry-after", "")
                told = f", with Retry-After {after}" if after.isdigit() and len(after) < 6 else ", without Retry-After"
                return Finding("Withstood", f"the request {sent} in a row was refused with 429{told}", 0, sent)
    except SpentError:
        pass
    declared = target.rate_limit
    if declared is not None and sent < declared[0]:
        told = f"{sent} requests and no 429; declared are {declared[0]} in {declared[1]:g} s: give a larger --budget"
        return Finding("Skipped", told, sent, declared[0])  # that it is so large is the owner's word, and no doubt
    if sent < LEAST:
        return Finding(
            "Inconclusive", f"{sent} requests and no 429: too few to tell; give a larger --budget", sent, LEAST
        )
    return Finding("Succeeded", f"{sent} requests in a row, and none was refused with 429", sent, 0)
