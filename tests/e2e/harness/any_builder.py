"""A builder, whichever program it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.protocol.identity import Identity

from .processes import mentioning


class AnyBuilder(ABC):
    """A Home Assistant that lends its machine, or a standalone builder. ``name`` is its label."""

    name: str

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """Its key pair."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Its base URL."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port that it listens on."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The id of its process."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether its process runs."""

    @property
    @abstractmethod
    def cache(self) -> Path:
        """The folder of all that can be made again."""

    @abstractmethod
    async def open(self) -> None:
        """Start it, fresh, with all set up and one slot."""

    @abstractmethod
    async def boot(self) -> None:
        """Start it again as it was."""

    @abstractmethod
    async def crash(self) -> None:
        """End it by SIGKILL."""

    @abstractmethod
    async def close(self) -> None:
        """Stop it, if it runs."""

    @abstractmethod
    async def open_pairing(self) -> str:
        """Open the pairing window and return the code."""

    @abstractmethod
    async def guests(self) -> Mapping[str, str]:
        """Return the labels of its guests, by the id that ``remove_guest`` takes."""

    @abstractmethod
    async def remove_guest(self, guest: str) -> None:
        """Remove a guest as its owner does."""

    @property
    def builds(self) -> Path:
        """The folder of all that guests' builds write; each of their processes mentions it."""
        return self.cache / "guests"

    def workspace(self, guest: Identity) -> Path:
        """Return the folder of all that builds for one guest write."""
        return CacheLayout(self.cache).guest(guest.pin_sha256).root

    def build_processes(self) -> dict[int, str]:
        """Return the processes of guests' builds, also those that tried to escape."""
        return mentioning(str(self.builds))

    def compilers(self) -> set[int]:
        """Return the ids of the processes of builds, without those that escape on purpose."""
        return {pid for pid, command in self.build_processes().items() if "escapee" not in command}
