"""A few nodes in one event loop over real loopback sockets, disks and clocks: for tests.

Each node has its own Serve, TLS links with injectable faults, and a record log on disk. A node can be crashed
and restarted; `real_backends.local` does the same with processes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.cell import Cell
from policies.port import Keys, Policy
from policies.wire import Message, encode
from real_backends.blob_exchange import BlobExchange
from real_backends.identity import OWNER, Identity, make_village
from real_backends.keys import Ed25519Keys
from real_backends.node_files import read_events, read_journal
from real_backends.serve import JobRunner, Sensors, Serve
from real_backends.stores.blobs import BlobStore
from real_backends.stores.file import FileStorage
from real_backends.transports.faulty import FaultyTransport, LinkFaults
from real_backends.transports.frames import REPLY, REQUEST, Reply, Request, decode
from real_backends.transports.tls import Address, TlsTransport
from scenarios.adversaries.choose import Role, play, with_role
from scenarios.journal import Header


def free_addresses(names: Sequence[str]) -> dict[str, Address]:
    """Return a loopback address with a port that was free a moment ago for each name."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    try:
        return {name: ("127.0.0.1", s.getsockname()[1]) for name, s in zip(names, sockets, strict=True)}
    finally:
        for s in sockets:
            s.close()


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return as soon as ``condition()`` holds; it is asked every few milliseconds.

    Raises:
        TimeoutError: it did not hold within ``timeout_s``.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


class LocalCluster:
    """Runs ``names`` as nodes. Use it as an async context manager.

    Args:
        policies: given a node's name, its policies by path, or one policy that runs alone; called at each
        start.
        names: the nodes.
        folder: where identities and each node's files go.
        seed: of random streams and of faults.
        sensors: given a node's name, its sensors.
        executors: given a node's name, what runs its jobs.
        roles: what the nodes that lie do.
        kept_bytes: of each node's journal and events, as in `Serve`.
    """

    def __init__(
        self,
        policies: Callable[[str], Mapping[str, Policy] | Policy],
        names: Sequence[str],
        folder: Path,
        *,
        seed: int = 1,
        sensors: Callable[[str], Sensors | None] = lambda name: None,
        executors: Callable[[str], JobRunner | None] = lambda name: None,
        roles: Mapping[str, Role] | None = None,
        kept_bytes: int = 0,
    ) -> None:
        self.names, self.folder = tuple(names), folder
        self.nodes: dict[str, Serve] = {}
        self.replies: asyncio.Queue[Reply] = asyncio.Queue()
        self._policies, self._sensors, self._executors, self._seed = policies, sensors, executors, seed
        self._roles, self._kept_bytes = roles or {}, kept_bytes
        self._storages: dict[str, FileStorage] = {}
        self._identities = folder / "identities"
        self.registry = make_village(self._identities, (*self.names, OWNER))
        self.addresses = free_addresses((*self.names, OWNER))
        self._owner = TlsTransport(Identity(OWNER, self._identities), self.registry, self.addresses)

    async def __aenter__(self) -> LocalCluster:
        await self._owner.start(self._on_frame, lambda peer, hint: None)
        for name in self.names:
            await self.start(name)
        return self

    async def __aexit__(self, *error: Any) -> None:
        for name in tuple(self.nodes):
            await self.stop(name)
        await self._owner.close()

    async def start(self, name: str) -> None:
        """Start a node, or start it again with what its log holds."""
        identity = Identity(name, self._identities)
        folder = self.folder / name
        peers = tuple(other for other in self.names if other != name)
        links = TlsTransport(identity, self.registry, self.addresses)
        transport = FaultyTransport(links, self._seed, exempt=(OWNER,))
        storage = self._storages[name] = FileStorage(folder / "node.log")
        role = self._roles.get(name)

        def make_cell(keys: Keys) -> Cell:
            return Cell(self._policies(name), name, peers, seed=self._seed, keys=keys)

        serve = Serve(
            lambda: play(role, make_cell, me=name, peers=peers, seed=self._seed, key_of=self.keys),
            transport,
            storage,
            BlobExchange(transport, BlobStore(folder / "blobs")),
            header=Header(
                node=name, peers=peers, seed=self._seed, world="local", policies={}, config=with_role({}, role)
            ),
            folder=folder,
            kept_bytes=self._kept_bytes,
            executor=self._executors(name),
            sensors=self._sensors(name),
        )
        await serve.start()
        self.nodes[name] = serve

    async def stop(self, name: str) -> None:
        """Stop a node cleanly."""
        await self.nodes.pop(name).stop()
        self._storages.pop(name).close()

    async def crash(self, name: str) -> None:
        """Stop a node as a kill would: what was not synced is not acknowledged, nothing more is sent."""
        await self.nodes.pop(name).kill()
        self._storages.pop(name).close()

    def keys(self, name: str) -> Keys:
        """Return a node's key handle."""
        return Ed25519Keys(Identity(name, self._identities).private_key(), self.registry)

    def set_faults(self, name: str, faults: LinkFaults) -> None:
        """Replace what one node takes to be wrong with the links."""
        transport = self.nodes[name].transport
        assert isinstance(transport, FaultyTransport)
        transport.faults = faults

    def request(self, node: str, path: str, client: str, op_id: str, operation: Message) -> None:
        """Send a client's operation; answers arrive in ``replies``."""
        request = Request(path=path, client=client, op_id=op_id, payload=encode(operation))
        self._owner.send(node, REQUEST, encode(request))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what a node decided, noted and read so far."""
        return read_events(self.folder / name / "events.jsonl")

    def journal(self, name: str) -> bytes:
        """Return a node's journal, as far as it was flushed and is kept."""
        return read_journal(self.folder / name / "node.journal")

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        if kind == REPLY:
            self.replies.put_nowait(decode(kind, body))
