"""BuilderPool: the builders there are right now."""

from collections.abc import Callable

from ..build.model import Builder


class BuilderPool:
    """Builders come and go with their config entries; whoever needs one asks here."""

    def __init__(self) -> None:
        """Start without any builder."""
        self._builders: dict[str, Builder] = {}
        self._unsubscribes: dict[str, Callable[[], None]] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def builders(self) -> tuple[Builder, ...]:
        """The registered builders, in the order in which they came."""
        return tuple(self._builders.values())

    def get(self, builder_id: str) -> Builder | None:
        """Return one builder."""
        return self._builders.get(builder_id)

    def register(self, builder: Builder) -> Callable[[], None]:
        """Add a builder, in place of one with the same id; returns unregister."""
        self._remove(builder.builder_id)
        self._builders[builder.builder_id] = builder
        self._unsubscribes[builder.builder_id] = builder.subscribe(self._notify)
        self._notify()

        def unregister() -> None:
            if self._builders.get(builder.builder_id) is builder:
                self._remove(builder.builder_id)
                self._notify()

        return unregister

    def leave(self) -> None:
        """Let go on what runs elsewhere when it is cancelled from now on."""
        for builder in self.builders:
            builder.leave()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when a builder comes, goes or changes; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _remove(self, builder_id: str) -> None:
        if self._builders.pop(builder_id, None) is not None:
            self._unsubscribes.pop(builder_id)()

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()
