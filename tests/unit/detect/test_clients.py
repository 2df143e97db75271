from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.clients import Caller, Remembered, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2::5", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_networks(address, network):
    assert network_of(address) == network


def test_the_same_subject_of_two_issuers_is_two_clients():
    one, other = Caller("user:a", "clinic", "n"), Caller("user:a", "partner", "n")
    assert one.key("client") != other.key("client")
    assert one.key("network") == other.key("network")


@given(st.lists(st.sampled_from("abcdefgh")))
def test_the_one_used_longest_ago_gives_way(keys):
    remembered, used = Remembered(3, list), []
    for key in keys:
        remembered.of(key).append(key)
        used = [*[each for each in used if each != key][-2:], key]
        assert len(remembered) == len(used)
    for key in used:
        assert set(remembered.of(key)) == {key}
    distinct_runs = len(keys) - remembered.forgotten
    assert distinct_runs >= len(used)


def test_what_was_dropped_begins_anew():
    remembered = Remembered(3, list)
    remembered.of("a").append(1)
    remembered.drop("a")
    remembered.drop("never")
    assert remembered.of("a") == []
