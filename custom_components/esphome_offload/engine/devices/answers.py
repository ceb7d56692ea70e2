"""Answers: what ESPHome says about one file, as it comes from the inspection and is stored.

It comes from a file that anybody may have written, so everything in it is bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from ..codec import Keyed, Many, Text
from ..device_access import DeviceAccess
from ..reason import Reason, ReasonKey


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken file that a configuration includes."""

    file: Annotated[str, Text(1024)]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a file.

    ``block``: it has an ``esphome`` section, ``node_name`` only if ESPHome accepts that name.
    ``says_device``: by its own text it is somebody's device. ``own_substitutions``: it defines
    some. ``complete``: nothing was left out; else what is not there may still be somewhere.
    ``remote_packages_missing``: there is no clone of some. ``broken``: it could not be loaded.
    ``reads`` are all paths, relative to the folder, that were read or looked for, also folders.
    """

    file: Annotated[str, Text(255)]
    block: bool = False
    node_name: Annotated[str, Text(31, r"[a-z0-9_-]+")] | None = None
    friendly_name: Annotated[str, Text(120)] | None = None
    comment: Annotated[str, Text(255)] | None = None
    platform: Annotated[str, Text(32)] | None = None
    deep_sleep: bool = False
    adds_mac_suffix: bool = False
    min_version: Annotated[str, Text(32)] | None = None
    access: DeviceAccess = field(default_factory=DeviceAccess)
    complete: bool = False
    says_device: bool = False
    own_substitutions: bool = False
    broken: bool = False
    remote_packages_missing: bool = False
    problem: Reason | None = None
    faults: Annotated[tuple[Fault, ...], Many(100)] = ()
    reads: Annotated[tuple[Annotated[str, Text(1024)], ...], Many(4200)] = ()

    @property
    def is_device(self) -> bool:
        """Whether the file describes a device."""
        return self.node_name is not None and (self.platform is not None or not self.complete)

    def renamed(self, old: str, new: str) -> Answer:
        """Return the answer for a file that has another name now."""
        reads = tuple(new if path == old else path for path in self.reads)
        return replace(self, file=new, reads=reads)

    @property
    def is_template(self) -> bool:
        """Whether a file without a device is one to be included, which gets its name elsewhere."""
        names = ReasonKey.CONFIGURATION_NAME_UNDEFINED, ReasonKey.CONFIGURATION_NAME_MISSING
        return self.node_name is None and self.problem is not None and self.problem.key in names


@dataclass(frozen=True, slots=True)
class Known:
    """An answer, the ESPHome that gave it, and the signatures of what it depends on.

    ``esphome_version`` is None for what the plain reader says. An empty signature is a path that
    is not there. ``former_paths`` are what the same files were known to depend on before.
    ``device`` is the last answer that had a device, as long as a mistake may be why this has none.
    """

    esphome_version: Annotated[str, Text(64)] | None
    signatures: Annotated[
        Mapping[Annotated[str, Text(1024)], Annotated[str, Text(100)]], Keyed(4200)
    ]
    answer: Answer
    former_paths: Annotated[tuple[Annotated[str, Text(1024)], ...], Many(4200)] = ()
    device: Answer | None = None

    def renamed(self, old: str, new: str) -> Known:
        """Return what is known of a file that has another name now; it is to be read again."""
        signatures = {path: value for path, value in self.signatures.items() if path != old}
        return replace(
            self,
            signatures={new: "", **signatures},
            answer=self.answer.renamed(old, new),
            former_paths=(),
            device=None if self.device is None else self.device.renamed(old, new),
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is known of a folder, as it is stored."""

    config_dir: Annotated[str, Text(4096)]
    files: Annotated[Mapping[Annotated[str, Text(255)], Known], Keyed(20_000)]
