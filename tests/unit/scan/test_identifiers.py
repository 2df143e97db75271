from __future__ import annotations

import numpy as np

from modelward.scan.dataset import column
from modelward.scan.identifiers import recognised


def kinds(name: str, cells: list[str]) -> dict[str, int]:
    return recognised(column(name, cells, np.arange(len(cells)))).kinds


def test_ages_and_postcodes_in_prose_are_counted() -> None:
    assert kinds("note", ["79 year old female, ZIP: 94105", "I'm 31 y/o", "no complaint"]) == {"age": 2, "postcode": 1}


def test_a_column_of_ages_or_of_postcodes_is_no_column_of_identifiers() -> None:
    assert kinds("age", ["31", "45", "102"]) == {}
    assert kinds("zip", ["94105-1234", "10115-0001", "SW1A 1AA"]) == {}
