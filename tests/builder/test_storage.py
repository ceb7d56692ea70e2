"""States in files: there as a whole, private, written soon."""

import asyncio
import logging
from pathlib import Path

from esphome_offload_builder import storage
from esphome_offload_builder.storage import FileStore
import pytest


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert await FileStore(path).load() is None
    await FileStore(path).save_durably({"a": 1})
    assert await FileStore(path).load() == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_changes_of_one_moment_are_written_once_and_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    store = FileStore(path)
    written: list[bytes] = []
    write = storage.write_private

    def counting(target: Path, content: bytes) -> None:
        written.append(content)
        write(target, content)

    monkeypatch.setattr(storage, "write_private", counting)
    for number in range(10):
        store.save_soon(lambda number=number: {"a": number})  # type: ignore[misc]
    async with asyncio.timeout(10):
        while not path.exists():  # noqa: ASYNC110 - of threads nothing tells
            await asyncio.sleep(0.01)
    await store.close()
    assert written == [b'{"a": 9}']


async def test_what_is_not_written_yet_is_written_at_the_end(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "state.json")
    store.save_soon(lambda: {"a": 1})
    await store.close()
    assert await store.load() == {"a": 1}


async def test_a_damaged_state_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"half')
    assert await FileStore(path).load() is None
    assert (tmp_path / "state.damaged").read_text() == '{"half'
    assert "damaged" in caplog.text


async def test_a_disk_that_is_full_is_logged_or_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store = FileStore(tmp_path / "missing" / "state.json")
    await store.save_now({"a": 1})
    assert "cannot be written" in caplog.text
    with pytest.raises(OSError, match="missing"):
        await store.save_durably({"a": 1})
