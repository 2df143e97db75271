"""Access: who is asking, which rule allows what they ask, and how often.

Rules are tried in their order and the first that fits decides; nothing fits, nothing goes.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from modelward.sidecar import config as settings
from modelward.sidecar.caller import Caller, merge, purpose_from_header
from modelward.sidecar.keys import Keys, given
from modelward.sidecar.problems import Refusal
from modelward.sidecar.ticket import Ticket
from modelward.sidecar.tokens import CHALLENGE, CHALLENGE_INVALID, TokenVerifier

if TYPE_CHECKING:
    from modelward.sidecar.shared_limits import Counting

ANYONE = "*"  # any authenticated caller; the policies that ship refuse such a rule
MAX_LIMITED_CALLERS = 10_000
EXACT = 1000


class RateLimiter:
    """A sliding window: never more than `requests` in any `seconds`, for each key.

    Exact up to `EXACT` requests; above, requests within a thousandth of the window are remembered together and leave
    it together, so that memory stays bounded (a caller may wait that thousandth longer). At most
    `MAX_LIMITED_CALLERS` keys are remembered, and those longest unseen forgotten; keys are authenticated callers, so
    an attacker cannot make them up.
    """

    def __init__(self, requests: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = requests
        self._seconds = seconds
        self._grain = seconds / EXACT if requests > EXACT else 0.0
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def wait(self, key: str) -> float:
        """0.0 and the request counts, or the seconds until one would be allowed."""
        now = self._clock()
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window()
            if len(self._windows) > MAX_LIMITED_CALLERS:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        return window.take(now, self._requests, self._seconds, self._grain)


class _Window:
    """One key's requests: when each grain of them ends to count from, and how many they are."""

    __slots__ = ("_counts", "_total", "_until")

    def __init__(self) -> None:
        self._until: deque[float] = deque()
        self._counts: deque[int] = deque()
        self._total = 0

    def take(self, now: float, requests: int, seconds: float, grain: float) -> float:
        until, counts = self._until, self._counts
        while until and until[0] <= now - seconds:
            until.popleft()
            self._total -= counts.popleft()
        if self._total >= requests:
            return until[0] + seconds - now
        if until and now <= until[-1]:
            counts[-1] += 1
        else:
            until.append(now + grain)
            counts.append(1)
        self._total += 1
        return 0.0


class _Rule:
    """A rule, made quick to match. `shared`: its limit in the common count, where there is one."""

    __slots__ = ("limiter", "operations", "purposes", "rule", "shared", "subjects")

    def __init__(self, rule: settings.Rule, counting: "Counting | None") -> None:
        self.rule = rule
        self.subjects = frozenset(rule.subjects)
        self.operations = frozenset(rule.operations)
        self.purposes = frozenset(rule.purposes)
        limit = rule.rate_limit
        replicas = counting.settings.replicas if counting else 1  # each has its share, while it counts alone
        self.limiter = RateLimiter(max(limit.requests // replicas, 1), limit.seconds) if limit else None
        self.shared = counting.limit(rule) if counting else None

    def fits(self, caller: Caller, operation: str, purpose: str | None) -> bool:
        return (
            operation in self.operations
            and (not self.purposes or purpose in self.purposes)
            and (ANYONE in self.subjects or not self.subjects.isdisjoint(caller.subjects))
        )


class Access:
    """The access rules of one configuration.

    Args:
        access: the configuration.
        keys: gives an issuer's keys.
        counting: the common count of rate limits; None: each replica counts by itself.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        access: settings.Access,
        keys: Callable[[settings.Issuer], Keys] = given,
        counting: "Counting | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        skew = access.clock_skew_seconds
        self._tokens = TokenVerifier(access.issuers, skew_seconds=skew, keys=keys, clock=clock)
        self.counting = counting
        self.rules = [_Rule(rule, counting) for rule in access.rules]
        self._known_purposes = frozenset[str]().union(*(rule.purposes for rule in self.rules))
        self._purpose_header = access.purpose_header
        self._clock = clock

    def inherit(self, previous: "Access") -> None:
        """Go on counting where the configuration before this one stopped, for the rules that are still the same."""
        for rule in self.rules:
            for one in previous.rules:
                if one.rule == rule.rule and (one.shared is None) == (rule.shared is None):
                    rule.limiter = one.limiter

    def forget_tokens(self) -> None:
        """Verify every token anew: an issuer has withdrawn a key."""
        self._tokens.forget()

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
        if scheme != b"Bearer" and scheme.lower() != b"bearer":
            raise Refusal(
                "unauthenticated", "Only Bearer tokens are accepted.", reason="scheme", headers=CHALLENGE_INVALID
            )
        caller = self._tokens.caller(token)
        return caller if certificate is None else merge(certificate, caller)

    def purpose(self, caller: Caller, header: bytes | None) -> str | None:
        """What the request is for: the token's claim, or the header where the policy lets it count."""
        if caller.purpose is not None or not self._purpose_header:
            return caller.purpose
        stated = purpose_from_header(header)
        # Anybody may write anything there: what no rule names counts for nothing, and is not recorded either.
        return stated if stated in self._known_purposes else None

    def authorise(self, caller: Caller, operation: str, purpose: str | None) -> Ticket | None:
        """Return when a rule allows the operation and its rate limit holds; with a ticket while that is being asked.

        Raises:
            Refusal: 403 when no rule fits, 429 when the rule's limit is used up.
        """
        # Callers make purposes up at will; all that no rule names are alike, so the memory stays small.
        key = (operation, purpose if purpose in self._known_purposes else None)
        index = caller.matches.get(key)
        if index is None:
            index = next((i for i, rule in enumerate(self.rules) if rule.fits(caller, *key)), -1)
            caller.matches[key] = index
        if index < 0:
            raise Refusal(
                "forbidden",
                f"No access rule allows you {operation} for the stated purpose. Ask the model's owner for a rule in "
                "`spec.access.rules`; the purpose is your token's claim `purpose`.",
                reason="no-rule",
            )
        rule = self.rules[index]
        if rule.limiter is None:
            return None
        who = caller.key
        if rule.shared is not None and self.counting is not None:
            ticket = Ticket()
            if self.counting.take(rule.shared, who.encode(), partial(self._counted, ticket, rule.limiter, who)):
                return ticket
            self.counting.count("alone")
        refusal = _limited(rule.limiter.wait(who))
        if refusal is not None:
            raise refusal
        return None

    def _counted(self, ticket: Ticket, share: RateLimiter, who: str, seconds: float | None) -> None:
        """The common count has answered, or could not."""
        assert self.counting is not None  # noqa: S101 - it calls
        self.counting.count("alone" if seconds is None else "together")
        ticket.settle(_limited(share.wait(who) if seconds is None else seconds))


def _limited(seconds: float) -> Refusal | None:
    if seconds <= 0:
        return None
    return Refusal(
        "rate-limited",
        "The access rule's rate limit is used up; try again after `Retry-After` seconds.",
        headers=b"retry-after: %d\r\n" % ceil(seconds),
    )
