"""Why the others would wait for the device that is updated first in vain."""

import pytest

from custom_components.esphome_offload.automatic.canary import (
    CanaryProblem,
    CanaryState,
    why_it_cannot_vouch,
)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (CanaryState(), None),
        (CanaryState(verifiable=False), CanaryProblem.UNVERIFIED),
        (CanaryState(verifiable=False, up_to_date=True), CanaryProblem.UNVERIFIED),
        (CanaryState(away=True, up_to_date=True), CanaryProblem.AWAY),
        (CanaryState(pinned=True), CanaryProblem.PINNED),
        (CanaryState(enabled=False), CanaryProblem.DISABLED),
        (CanaryState(takes_part=False), CanaryProblem.SWITCHED_OFF),
        (CanaryState(skipped=True), CanaryProblem.SKIPPED),
        (CanaryState(failed=True), CanaryProblem.FAILED),
        (CanaryState(takes_part=False, enabled=False, up_to_date=True), None),
    ],
)
def test_what_a_person_has_to_change(state: CanaryState, problem: CanaryProblem | None) -> None:
    assert why_it_cannot_vouch(state) is problem
