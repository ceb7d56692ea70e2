"""The pairing window as its owner sees it."""

import pytest

from custom_components.esphome_offload.engine.host.pairing_window import PairingWindow, WindowEnd
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.limits import PAIRING_TRIES, PAIRING_WINDOW


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> PairingWindow:
    return PairingWindow(clock)


def test_codes_are_of_eight_digits_and_differ(window: PairingWindow) -> None:
    codes = {window.open().code for _ in range(50)}
    assert all(len(code) == 8 and code.isdecimal() for code in codes)
    assert len(codes) > 45


def test_the_owner_sees_code_time_and_tries(window: PairingWindow, clock: Clock) -> None:
    opened = window.open()
    assert (opened.seconds_left, opened.tries_left) == (PAIRING_WINDOW, PAIRING_TRIES)
    clock.now += 10.5
    state = window.state
    assert state is not None
    assert (state.code, state.seconds_left) == (opened.code, PAIRING_WINDOW - 10)
    assert opened.code not in repr(state)


def test_a_window_closes_expires_and_opens_again(window: PairingWindow, clock: Clock) -> None:
    assert (window.state, window.end) == (None, None)
    window.open()
    window.close()
    assert (window.state, window.end) == (None, WindowEnd.CLOSED)
    window.open()
    assert window.end is None
    clock.now += PAIRING_WINDOW
    assert (window.state, window.end) == (None, WindowEnd.EXPIRED)


def test_a_new_window_has_all_tries(window: PairingWindow) -> None:
    window.open()
    window.begin(None)
    window.answered()
    window.abandon()
    assert window.tries_left == PAIRING_TRIES - 1
    window.open()
    assert window.tries_left == PAIRING_TRIES


def test_changes_are_notified(window: PairingWindow) -> None:
    changes: list[WindowEnd | None] = []
    window.changed.subscribe(lambda: changes.append(window.end))
    window.open()
    window.begin(None)
    window.answered()
    window.abandon()
    window.close()
    window.close()
    assert changes == [None, None, WindowEnd.CLOSED]


def test_while_one_exchange_runs_another_is_busy(window: PairingWindow) -> None:
    window.open()
    window.begin(None)
    with pytest.raises(ProtocolError) as caught:
        window.begin(None)
    assert caught.value.code is ErrorCode.BUSY
    window.abandon()
    window.begin(None)


def test_who_used_up_the_last_try_is_known_and_not_who_only_asked(window: PairingWindow) -> None:
    window.open()
    window.begin("192.0.2.1")
    with pytest.raises(ProtocolError):
        window.begin("192.0.2.2")
    window.answered()
    window.abandon()
    window.begin("192.0.2.3")
    window.abandon()
    assert window.tried_from == "192.0.2.1"
