"""Access: who is asking, which rule allows what they ask, and how often.

Rules are tried in their order and the first that fits decides; nothing fits, nothing goes.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil

from modelward.sidecar import config as settings
from modelward.sidecar.caller import Caller, merge, purpose_from_header
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tokens import CHALLENGE, CHALLENGE_INVALID, TokenVerifier

ANYONE = "*"  # any authenticated caller; the policies that ship refuse such a rule
MAX_LIMITED_CALLERS = 10_000


class RateLimiter:
    """An exact sliding window: at most `requests` in any `seconds`, for each key.

    Remembers at most `MAX_LIMITED_CALLERS` keys, forgetting those longest unseen. Keys are authenticated callers, so
    an attacker cannot make them up.
    """

    def __init__(self, requests: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = requests
        self._seconds = seconds
        self._clock = clock
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """0.0 and the request counts, or the seconds until one would be allowed."""
        now = self._clock()
        times = self._seen.get(key)
        if times is None:
            times = self._seen[key] = deque()
            if len(self._seen) > MAX_LIMITED_CALLERS:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(key)
        while times and times[0] <= now - self._seconds:
            times.popleft()
        if len(times) >= self._requests:
            return times[0] + self._seconds - now
        times.append(now)
        return 0.0


class _Rule:
    """A rule, made quick to match."""

    __slots__ = ("limiter", "operations", "purposes", "subjects")

    def __init__(self, rule: settings.Rule) -> None:
        self.subjects = frozenset(rule.subjects)
        self.operations = frozenset(rule.operations)
        self.purposes = frozenset(rule.purposes)
        limit = rule.rate_limit
        self.limiter = RateLimiter(limit.requests, limit.seconds) if limit else None

    def fits(self, caller: Caller, operation: str, purpose: str | None) -> bool:
        return (
            operation in self.operations
            and (not self.purposes or purpose in self.purposes)
            and (ANYONE in self.subjects or not self.subjects.isdisjoint(caller.subjects))
        )


class Access:
    """The access rules of one configuration. `clock` tells seconds since the epoch."""

    def __init__(self, access: settings.Access, clock: Callable[[], float] = time.time) -> None:
        self._tokens = TokenVerifier(access.issuers, skew_seconds=access.clock_skew_seconds, clock=clock)
        self._rules = [_Rule(rule) for rule in access.rules]
        self._known_purposes = frozenset[str]().union(*(rule.purposes for rule in self._rules))
        self._purpose_header = access.purpose_header
        self._clock = clock

    def authenticate(self, authorization: bytes | None, certificate: Caller | None) -> Caller:
        """The caller, from the Authorization header and the client certificate, whichever there are.

        A token that is shown must verify, even beside a good certificate.

        Raises:
            Refusal: 401.
        """
        if certificate is not None and certificate.expires <= self._clock():
            raise Refusal("unauthenticated", "The client certificate has expired.", reason="certificate-expired")
        if authorization is None:
            if certificate is None:
                raise Refusal(
                    "unauthenticated",
                    "Send a token of an accepted issuer: `Authorization: Bearer <token>`.",
                    reason="token-missing",
                    headers=CHALLENGE,
                )
            return certificate
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Refusal("unauthenticated", "Only Bearer tokens are accepted.", reason="scheme", headers=CHALLENGE_INVALID)
        caller = self._tokens.caller(token)
        return caller if certificate is None else merge(certificate, caller)

    def purpose(self, caller: Caller, header: bytes | None) -> str | None:
        """What the request is for: the token's claim, or the header where the policy lets it count."""
        if caller.purpose is not None or not self._purpose_header:
            return caller.purpose
        return purpose_from_header(header)

    def authorise(self, caller: Caller, operation: str, purpose: str | None) -> None:
        """Return when a rule allows the operation and its rate limit holds.

        Raises:
            Refusal: 403 when no rule fits, 429 when the rule's limit is used up.
        """
        # Callers make purposes up at will; all that no rule names are alike, so the memory stays small.
        key = (operation, purpose if purpose in self._known_purposes else None)
        index = caller.matches.get(key)
        if index is None:
            index = next((i for i, rule in enumerate(self._rules) if rule.fits(caller, *key)), -1)
            caller.matches[key] = index
        if index < 0:
            raise Refusal(
                "forbidden",
                f"No access rule allows you {operation} for the stated purpose. Ask the model's owner for a rule in "
                "`spec.access.rules`; the purpose is your token's claim `purpose`.",
                reason="no-rule",
            )
        limiter = self._rules[index].limiter
        if limiter is not None and (seconds := limiter.wait(f"{caller.issuer}\0{caller.name}")) > 0:
            raise Refusal(
                "rate-limited",
                "The access rule's rate limit is used up; try again after `Retry-After` seconds.",
                headers=b"retry-after: %d\r\n" % ceil(seconds),
            )
