"""Group commit: batches of saves become durable in order, several with one sync, off the event loop.

Most of what was written is superseded some time later. When a file has grown to twice what it stood for when it was
compacted last, it is compacted again: so for each byte that is saved two or three are written, however long a node
runs, and its disk holds a bounded number of times what lives. Batches wait meanwhile, as for a sync. While there is no
room for a second file beside the first, the first goes on growing, for as long as the disk takes what is appended.

A record says how much before it was durable, so that damage to that is told from a torn tail. Of the newest one nothing
would say so for as long as nothing follows, which on a quiet node is long: an empty record follows, written and not
waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from policies.log import Batch, NoRoom, Storage, compact, record

COMPACT_BYTES = 8 << 20
"""Smaller files are left alone (our choice: 19,000 saves of HotStuff's, compacted in 0.07 s of one core, well below the
time after which a member is missed)."""
AGAIN_BYTES = COMPACT_BYTES // 8  # our choice: how much a file for which there was no room grows before the next look

Note = Callable[[str, dict[str, int | str]], None]
"""Called with what happened and its fields."""


class Committer:
    """Appends and syncs in a thread; one write is in flight, and what comes meanwhile joins the next.

    Args:
        storage: the record log's disk.
        durable: called with (path, token) for each batch, in order, once it is durable.
        failed: called with the error when the disk fails or has lost something; nothing is reported durable after it.
        note: told once when there is no room to compact, and once when there is again.
    """

    def __init__(
        self, storage: Storage, durable: Callable[[str, int], None], failed: Callable[[Exception], None], note: Note
    ) -> None:
        self.syncs = 0
        self.size_bytes = self.durable_bytes = 0  # of the file; every record says how much of it was safe before
        self._compact_at = COMPACT_BYTES
        self._cramped = False  # there was no room when it was to be compacted last
        self._storage, self._durable, self._failed, self._note = storage, durable, failed, note
        self._waiting: list[tuple[str, int, Batch]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def begin(self, durable_bytes: int) -> None:
        """Write on behind so many bytes, all of them durable."""
        self.size_bytes = self.durable_bytes = durable_bytes

    def vouch(self) -> None:
        """Write that all up to here is durable, for recovery to know."""
        mark = record((), self.durable_bytes)
        self._storage.append(mark)
        self.size_bytes += len(mark)

    @property
    def busy(self) -> bool:
        """Whether a batch is not durable yet."""
        return self._task is not None

    def add(self, path: str, token: int, batch: Batch) -> None:
        """Queue one batch."""
        if self._stopped:
            return
        self._waiting.append((path, token, batch))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def wait(self) -> None:
        """Return once the write in flight and those queued behind it are done."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def drop(self) -> None:
        """Forget what is queued and report nothing more; the write in flight still ends."""
        self._stopped = True
        self._waiting.clear()
        await self.wait()

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                data = b"".join(record(batch, self.durable_bytes) for _, _, batch in group)
                await asyncio.to_thread(self._write, data)
                self.syncs += 1
                for path, token, _ in group:
                    if not self._stopped:
                        self._durable(path, token)
                if self.durable_bytes >= self._compact_at and not self._stopped:
                    await self._compact()
        except Exception as error:  # of the disk, or of what it holds: whatever it is, the next batch is not durable
            self._stopped = True
            self._failed(error)
        finally:
            self._task = None

    async def _compact(self) -> None:
        cramped, before_bytes = self._cramped, self.durable_bytes
        try:
            self.begin(await asyncio.to_thread(compact, self._storage))
            self._compact_at, self._cramped = max(COMPACT_BYTES, 2 * self.durable_bytes), False
            if cramped:
                self._note("compacted_again", {"from_bytes": before_bytes, "to_bytes": self.durable_bytes})
        except NoRoom as error:
            self._compact_at, self._cramped = before_bytes + AGAIN_BYTES, True
            if not cramped:
                self._note("no_room_to_compact", {"bytes": before_bytes, "why": str(error.strerror)})

    def _write(self, data: bytes) -> None:
        self._storage.append(data)
        self._storage.sync()
        self.size_bytes += len(data)
        self.durable_bytes = self.size_bytes
        if not self._waiting:
            self.vouch()
