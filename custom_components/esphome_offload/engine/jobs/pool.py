"""BuilderPool: the builders that are available to jobs."""

from collections.abc import Callable

from ..build.model import Builder
from ..listeners import Listeners


class BuilderPool:
    """Holds the builders, which come and go with their config entries."""

    def __init__(self) -> None:
        self._builders: dict[str, Builder] = {}
        self._unused: set[str] = set()
        self._unsubscribes: dict[str, Callable[[], None]] = {}
        self._listeners = Listeners[[]]()

    @property
    def builders(self) -> tuple[Builder, ...]:
        """The registered builders, in the order in which they came."""
        return tuple(self._builders.values())

    def get(self, builder_id: str) -> Builder | None:
        """Return one builder."""
        return self._builders.get(builder_id)

    def uses(self, builder_id: str) -> bool:
        """Return whether a builder is used by jobs that do not ask for it."""
        return builder_id not in self._unused

    def use(self, builder_id: str, *, use: bool) -> None:
        """Use a registered builder or not for jobs that do not ask for it; builds go on."""
        if use is self.uses(builder_id) or builder_id not in self._builders:
            return
        if use:
            self._unused.discard(builder_id)
        else:
            self._unused.add(builder_id)
        self._listeners.notify()

    def register(self, builder: Builder, *, use: bool = True) -> Callable[[], None]:
        """Add a builder, in place of one with the same id; returns unregister.

        ``use``: whether jobs use it that do not ask for it.
        """
        self._remove(builder.builder_id)
        if not use:
            self._unused.add(builder.builder_id)
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
        self._unused.discard(builder_id)
        if self._builders.pop(builder_id, None) is not None:
            self._unsubscribes.pop(builder_id)()
