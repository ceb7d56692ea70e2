import pytest

from custom_components.esphome_offload.engine.listeners import Listeners


def test_listeners_are_called_in_the_order_in_which_they_subscribed() -> None:
    listeners = Listeners[str]()
    calls: list[tuple[int, str]] = []
    listeners.subscribe(lambda text: calls.append((1, text)))
    listeners.subscribe(lambda text: calls.append((2, text)))

    listeners.notify("a")

    assert calls == [(1, "a"), (2, "a")]


def test_the_same_callable_may_subscribe_twice_and_unsubscribe_once() -> None:
    listeners = Listeners[[]]()
    calls: list[None] = []

    def listener() -> None:
        calls.append(None)

    first = listeners.subscribe(listener)
    listeners.subscribe(listener)
    first()
    first()
    listeners.notify()

    assert len(calls) == 1
    assert listeners


def test_it_is_false_when_no_listener_is_left() -> None:
    listeners = Listeners[[]]()
    assert not listeners
    unsubscribe = listeners.subscribe(lambda: None)
    assert listeners
    unsubscribe()
    assert not listeners


def test_a_listener_that_another_one_unsubscribed_is_not_called() -> None:
    listeners = Listeners[[]]()
    calls: list[str] = []

    def first() -> None:
        unsubscribe_second()

    listeners.subscribe(first)
    unsubscribe_second = listeners.subscribe(lambda: calls.append("second"))

    listeners.notify()

    assert calls == []


def test_one_that_subscribes_during_a_notification_waits_for_the_next() -> None:
    listeners = Listeners[[]]()
    calls: list[str] = []

    def subscribe_another() -> None:
        unsubscribe()
        listeners.subscribe(lambda: calls.append("late"))

    unsubscribe = listeners.subscribe(subscribe_another)

    listeners.notify()
    assert calls == []
    listeners.notify()
    assert calls == ["late"]


def test_one_that_fails_is_logged_and_keeps_no_other_from_being_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listeners = Listeners[[]]()
    calls: list[str] = []

    def fail() -> None:
        raise ValueError("a defect")

    listeners.subscribe(fail)
    listeners.subscribe(lambda: calls.append("second"))

    listeners.notify()

    assert calls == ["second"]
    assert "a defect" in caplog.text
