"""Used attempt ids: bounded in number, for ever out."""

from datetime import UTC, datetime, timedelta

import pytest

from custom_components.esphome_offload.engine.host.used_ids import KEPT, KEPT_FOR, UsedAttemptIds
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError

NOW = datetime(2026, 10, 20, tzinfo=UTC)


def made_at(moment: datetime, number: int = 0) -> str:
    return f"{int(moment.timestamp() * 1000):012x}7{number:019x}"


def refusal(used: UsedAttemptIds, attempt_id: str, now: datetime) -> ErrorCode | None:
    try:
        used.check(attempt_id, now)
    except ProtocolError as err:
        return err.code
    return None


def test_an_id_is_good_once() -> None:
    used = UsedAttemptIds()
    assert refusal(used, made_at(NOW), NOW) is None
    used.add(made_at(NOW), NOW)
    assert refusal(used, made_at(NOW), NOW) is ErrorCode.ATTEMPT_OVER
    assert refusal(used, made_at(NOW, 1), NOW) is None
    assert refusal(used, made_at(NOW - timedelta(days=30)), NOW) is None


@pytest.mark.parametrize("number", [1, KEPT * 3])
def test_an_id_that_was_forgotten_is_still_out(number: int) -> None:
    used = UsedAttemptIds()
    ids = [made_at(NOW + timedelta(seconds=second)) for second in range(number)]
    for second, attempt_id in enumerate(ids):
        used.add(attempt_id, NOW + timedelta(seconds=second))
    later = NOW + KEPT_FOR + timedelta(days=1)
    used.add(made_at(later), later)
    assert list(used.times) == [made_at(later)]
    assert {refusal(used, each, later) for each in ids} == {ErrorCode.ATTEMPT_OVER}
    assert refusal(used, made_at(later, 1), later) is None


def test_no_more_than_so_many_are_kept() -> None:
    used = UsedAttemptIds()
    for number in range(KEPT + 50):
        used.add(made_at(NOW, number), NOW)
    assert len(used.times) == KEPT
    assert used.horizon == made_at(NOW, 49)


def test_ids_of_the_future_are_refused_and_cannot_lock_the_guest_out() -> None:
    used = UsedAttemptIds()
    far = made_at(NOW + timedelta(days=400))
    assert refusal(used, far, NOW) is ErrorCode.MALFORMED
    assert refusal(used, "f" * 32, NOW) is ErrorCode.MALFORMED
    # This clock was far ahead for a while.
    used.add(far, NOW + timedelta(days=400))
    used.drop_all()
    assert refusal(used, made_at(NOW), NOW) is None
