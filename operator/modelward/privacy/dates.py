"""Date shift: every date of one subject is moved by the same number of days, so that intervals are kept.

The number is drawn from -`max_days` to `max_days` without 0 by HMAC-SHA-256 of the subject under a key of its own. It
is the same in every field and in every model of the namespace that has the same `max_days`; nobody without the key
can tell it. (ISO/IEC 20889 counts this with noise addition; HIPAA's Safe Harbor asks for more: a year alone.)
"""

from datetime import date, datetime
from typing import Any

from modelward.privacy.keys import Keys
from modelward.privacy.pseudonym import keyed
from modelward.privacy.values import TreatmentError, canonical, date_in, shifted


class DateShift:
    """Shifts the dates of the subjects that `subject`, a field, names."""

    def __init__(self, keys: Keys, subject: str, max_days: int) -> None:
        self._inner, self._outer = keyed(keys.domain("date-shift", subject))
        self._max_days = max_days

    def days(self, subject: Any) -> int:
        """By how many days the dates of `subject` are moved; never 0. Raises TreatmentError for no value."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(canonical(subject))
        outer.update(inner.digest())
        drawn = int.from_bytes(outer.digest()[:16]) % (2 * self._max_days)
        return drawn - self._max_days if drawn < self._max_days else drawn - self._max_days + 1

    def __call__(self, value: Any, subject: Any) -> Any:
        """`value` moved, in the form it came in; the time of day stays.

        Raises:
            TreatmentError: `value` is neither a date nor text that is one in ISO 8601, or leaves the calendar.
        """
        days = self.days(subject)
        if isinstance(value, str):
            found = date_in(value)
            if found is not None:
                return shifted(found[0], days).isoformat() + found[1]
        elif isinstance(value, datetime):
            return datetime.combine(shifted(value.date(), days), value.timetz())
        elif isinstance(value, date):
            return shifted(value, days)
        raise TreatmentError("needs a date in ISO 8601, as in 2026-03-31 or 2026-03-31T08:30:00Z")
