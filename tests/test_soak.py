"""The soak, as far as it needs no instances."""

from itertools import islice

from script.soak_faults.__main__ import chosen
from script.soak_faults.faults import FAULTS


def test_a_seed_gives_the_same_faults_each_time() -> None:
    first, again = (list(islice(chosen(5), 100)) for _ in range(2))
    assert first == again
    assert first != list(islice(chosen(6), 100))


def test_every_fault_comes_before_any_comes_again() -> None:
    names = [fault.name for _, fault in islice(chosen(7), len(FAULTS))]
    assert sorted(names) == sorted(each.name for each in FAULTS)
    assert len(set(names)) == len(FAULTS)
