"""BuilderPool: the builders that are available to jobs."""

from collections.abc import Callable

from ..build.model import Builder
from ..listeners import Listeners


class BuilderPool:
    """Holds the builders, which come and go with their config entries."""

    def __init__(self) -> None:
        self._builders: dict[str, Builder] = {}
        self._unsubscribes: dict[str, Callable[[], None]] = {}
        self._listeners = Listeners[[]]()

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
        self._unsubscribes[builder.builder_id] = builder.subscribe(self._listeners.notify)
        self._listeners.notify()

        def unregister() -> None:
            if self._builders.get(builder.builder_id) is builder:
                self._remove(builder.builder_id)
                self._listeners.notify()

        return unregister

    def leave(self) -> None:
        """Let builds on other machines continue when they are cancelled from now on."""
        for builder in self.builders:
            builder.leave()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when a builder comes, goes or changes; returns unsubscribe."""
        return self._listeners.subscribe(listener)

    def _remove(self, builder_id: str) -> None:
        if self._builders.pop(builder_id, None) is not None:
            self._unsubscribes.pop(builder_id)()
