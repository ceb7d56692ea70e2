"""The status of this machine as a guest gets it."""

from ..build.model import BuilderStatus
from ..build.process.machine_containment import ContainmentHere, Degree
from ..build.resources import DISK_MIB
from ..build.slots import Slots
from ..protocol.errors import ProtocolError
from ..protocol.limits import QUEUE_LIMIT, VERSION_LIMIT, VERSIONS_LIMIT, WARM_LIMIT
from ..protocol.messages import Clean, SentReason, StatusEvent
from ..protocol.parsing import parse
from ..reason import Reason, ReasonKey


def why_not_lent(
    builder: BuilderStatus, containment: ContainmentHere, *, uncontained: bool
) -> Reason | None:
    """Return why this machine cannot be lent; None when it can. ``builder`` is its own.

    ``uncontained``: its owner has builds of guests run in any case.
    """
    if not builder.available:
        return builder.why_not or Reason(ReasonKey.NOT_AVAILABLE)
    if containment.degree is Degree.UNCONTAINED and not uncontained:
        return containment.reason
    return None


def why_no_build(builder: BuilderStatus) -> Reason | None:
    """Return why a guest's builder accepts nothing now; None when it does."""
    if not builder.available:
        return builder.why_not or Reason(ReasonKey.NOT_AVAILABLE)
    if builder.disk_mib is not None and builder.disk_mib < DISK_MIB:
        parameters = {"free": str(builder.disk_mib), "needed": str(DISK_MIB)}
        return Reason(ReasonKey.DISK_LOW, parameters)
    return None


def status_event(builder: BuilderStatus, why_not: Reason | None, slots: Slots) -> StatusEvent:
    """Return the status for a guest; ``builder`` is the guest's own."""
    return StatusEvent(
        available=why_not is None,
        slots=slots.count,
        busy=slots.busy,
        queue_length=min(slots.waiting, QUEUE_LIMIT),
        why_not=None if why_not is None else SentReason.of(why_not),
        versions=tuple(each for each in builder.versions if len(each) <= VERSION_LIMIT)[
            :VERSIONS_LIMIT
        ],
        warm=tuple(sorted(filter(_can_be_sent, builder.warm)))[:WARM_LIMIT],
        memory_mib=builder.memory_mib,
        disk_mib=builder.disk_mib,
        ccache=builder.ccache,
        ccache_hits=builder.ccache_hits,
        ccache_files=builder.ccache_files,
    )


def _can_be_sent(configuration: str) -> bool:
    """Return whether this is the name of a configuration: builds write the files it comes from."""
    try:
        parse(Clean, {"configuration": configuration})
    except ProtocolError:
        return False
    return True
