"""The policy for invalid items, shared by all readers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.errors import BadRecord, MedgroundError, require_good, sift


def half(n: int) -> int:
    if n % 2:
        raise BadRecord("odd").at("numbers.txt", n)
    return n // 2


@given(st.lists(st.integers(0, 9)))
def test_valid_items_come_back_in_order_and_the_others_are_taken(numbers):
    taken: list[int] = []
    found = sift(numbers, half, lambda n, bad: taken.append(n))
    if numbers and all(n % 2 for n in numbers):
        with pytest.raises(MedgroundError, match=r"^numbers.txt: every line was rejected$"):
            list(found)
    else:
        assert list(found) == [n // 2 for n in numbers if n % 2 == 0]
    assert taken == [n for n in numbers if n % 2]


def test_a_taker_that_raises_ends_the_run_at_the_first_invalid_item():
    def refuse(n: int, bad: BadRecord) -> None:
        raise bad

    found = sift([2, 3, 4], half, refuse)
    assert next(found) == 1
    with pytest.raises(BadRecord, match=r"numbers\.txt:3: odd"):
        next(found)


def test_the_message_names_the_source_and_the_unit():
    with pytest.raises(MedgroundError, match=r"x\.csv: every row was rejected"):
        list(sift([1], half, lambda n, bad: None, "x.csv", "row"))


@pytest.mark.parametrize(("good", "rejected"), [(0, 0), (1, 0), (1, 2)])
def test_a_run_with_a_valid_item_or_without_items_goes_on(good, rejected):
    require_good(good, rejected, "x.csv", "row")
