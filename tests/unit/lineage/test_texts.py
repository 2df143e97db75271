from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage.subject import Step
from modelward.lineage.texts import storable
from modelward.windows import Consumer

texts = st.text(alphabet=st.sampled_from("ab\0\x01\ufffd"))
steps = st.builds(Step, texts, texts, texts)
consumers = st.builds(Consumer, texts, texts, texts, st.integers(0, 9), st.integers(0, 9), texts, texts)
values = st.recursive(
    texts | st.integers() | st.none() | st.booleans() | steps | consumers,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(texts, inner),
)


@given(values)
def test_all_texts_can_be_kept_and_nothing_else_changes(value: Any) -> None:
    found = storable(value)
    assert "\0" not in repr(found)
    assert "\\x00" not in repr(found)
    assert storable(found) == found
    assert type(found) is type(value)
    if "\\x00" not in repr(value):
        assert found == value


def test_what_holds_texts_is_of_its_kind_still() -> None:
    lee = Consumer("user:\0", "i", "p", 1, 2, "f", "l")
    assert storable((lee, Step("\0", "h", "w"))) == (
        msgspec.structs.replace(lee, client="user:\ufffd"),
        Step("\ufffd", "h", "w"),
    )
