"""TargetStore: one stored record for each target, which goes with it."""

from collections.abc import Collection
import logging

from homeassistant.core import HomeAssistant

from ..engine.codec import CodecError, decode, encode
from ..engine.target import TargetId, configuration_of, moved
from ..stores.storage import StatePersistence

_LOGGER = logging.getLogger(__name__)


class TargetStore[T]:
    """Keeps records (dataclasses) in ``.storage/esphome_offload.<name>``."""

    def __init__(self, hass: HomeAssistant, name: str, kind: type[T]) -> None:
        self._name = name
        self._kind = kind
        self._store = StatePersistence(hass, name)
        self._records: dict[TargetId, T] = {}

    async def async_load(self) -> None:
        """Load what was stored before a restart."""
        for target, raw in (await self._store.load() or {}).items():
            try:
                self._records[TargetId(target)] = decode(self._kind, raw)
            except CodecError as err:
                _LOGGER.warning("What is stored of %s (%s) is damaged: %s", target, self._name, err)

    @property
    def records(self) -> dict[TargetId, T]:
        """The records by target."""
        return self._records

    async def async_set(self, target: TargetId, record: T | None) -> None:
        """Store a record, or remove it."""
        self._put(target, record)
        await self._store.save_now(self._content())

    async def async_set_durably(self, target: TargetId, record: T) -> None:
        """Store a record; returns when it is on disk. Raises OSError, and keeps the former one."""
        former = self._records.get(target)
        self._put(target, record)
        try:
            await self._store.save_durably(self._content())
        except OSError:
            if self._records.get(target) is record:
                self._put(target, former)
            raise

    def rename(self, old: TargetId, new: TargetId) -> None:
        """Move records to another target; see ``moved``. One that is there already stays."""
        records = {
            moved(target, old, new): each
            for target, each in self._records.items()
            if moved(target, old, new) == target or moved(target, old, new) not in self._records
        }
        if records != self._records:
            self._records = records
            self._store.save_soon(self._content)

    def keep_only(self, files: Collection[str]) -> None:
        """Remove the records of configurations that do not exist any more."""
        gone = [target for target in self._records if configuration_of(target) not in files]
        for target in gone:
            del self._records[target]
        if gone:
            self._store.save_soon(self._content)

    def _put(self, target: TargetId, record: T | None) -> None:
        if record is None:
            self._records.pop(target, None)
        else:
            self._records[target] = record

    def _content(self) -> dict[str, object]:
        return {target: encode(record) for target, record in self._records.items()}
