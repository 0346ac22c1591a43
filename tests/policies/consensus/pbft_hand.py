"""One member of PBFT driven by hand, and what four members can sign."""

from __future__ import annotations

from typing import Any

from policies import port as p
from policies.cell import Cell
from policies.config import PbftConfig
from policies.consensus import chunks
from policies.consensus.pbft import Pbft
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.proofs import GENESIS, Committee, again
from policies.wire import encode
from sim.keys import KeyRing

NAMES = ("n0", "n1", "n2", "n3")
RING = KeyRing(1)
CONFIG = PbftConfig(checkpoint_every=4, in_flight=8, max_batch=8, pool_max=20, chunk_bytes=4)
BATCH: m.Batch = (("n0", 1, b"a"),)
OTHER: m.Batch = (("n0", 2, b"b"),)


class Keys:
    """What `Committee` asks of a port: one identity's keys, and to be told of wrong signatures."""

    def __init__(self, name: str) -> None:
        self.me, self.keys = name, RING.handle(name)

    def note(self, name: str, /, **fields: object) -> None:
        """Nobody reads it."""


def signer(name: str) -> Committee:
    """Return the committee as ``name`` holds it, to sign and to verify."""
    committee = Committee(NAMES)
    committee.begin(Keys(name), 8)  # type: ignore[arg-type]
    return committee


SIGN = {name: signer(name).sign for name in NAMES}


def pre_prepare(view: int, seq: int, batch: m.Batch, by: str = "") -> m.PrePrepare:
    place = (view, seq, m.digest_of(batch))
    return m.PrePrepare(view, seq, batch, SIGN[by or NAMES[view % 4]]("pre-prepare", *place))


def prepare(name: str, view: int, seq: int, batch: m.Batch) -> m.Prepare:
    place = (view, seq, m.digest_of(batch))
    return m.Prepare(*place, SIGN[name]("prepare", *place))


def commit(name: str, view: int, seq: int, batch: m.Batch) -> m.Commit:
    place = (view, seq, m.digest_of(batch))
    return m.Commit(*place, SIGN[name]("commit", *place))


def prepared(view: int, seq: int, batch: m.Batch) -> m.Prepared:
    place = (view, seq, m.digest_of(batch))
    primary = NAMES[view % 4]
    votes = tuple((name, SIGN[name]("prepare", *place)) for name in NAMES if name != primary)[:2]
    return m.Prepared(*place, SIGN[primary]("pre-prepare", *place), votes)


def change(name: str, view: int, certificates: tuple[m.Prepared, ...] = (), stable: m.Stable = GENESIS) -> m.ViewChange:
    signature = SIGN[name]("view-change", view, m.digest_of((stable, certificates)))
    return m.ViewChange(name, view, stable, certificates, signature)


def stable_at(point: m.Point, names: tuple[str, ...] = NAMES[:3]) -> m.Stable:
    return m.Stable(point, tuple((name, SIGN[name]("checkpoint", point)) for name in names))


def point_of(state: bytes, seq: int = 8, index: int = 20, applied: int = 20) -> m.Point:
    """Return a checkpoint whose snapshot is ``state``."""
    return m.Point(seq, index, b"chain", applied, chunks.state_digest(state, CONFIG.chunk_bytes))


def shown(point: m.Point, state: bytes, names: tuple[str, ...] = NAMES[:3]) -> m.Transferred:
    """Return what is shown of a state before its chunks are sent."""
    return m.Transferred(stable_at(point, names), chunks.manifest_of(state, CONFIG.chunk_bytes), ())


def chunks_of(state: bytes) -> list[chunks.Chunk]:
    """Return a state's chunks, in order."""
    digest, each = chunks.state_digest(state, CONFIG.chunk_bytes), CONFIG.chunk_bytes
    return [chunks.Chunk(digest, k, chunks.piece(state, k, each)) for k in range(-(-len(state) // each))]


class One:
    """One member driven by hand: what it sends is looked at, what it saves is kept."""

    def __init__(self, name: str = "n3", saved: dict[str, bytes] | None = None, kind: type[Pbft] = Pbft) -> None:
        self.name, self.disk, self.now = name, dict(saved or {}), 0
        self.pbft = kind(CONFIG, NAMES)
        peers = tuple(other for other in NAMES if other != name)
        self.cell = Cell(self.pbft, name, peers, seed=1, keys=RING.handle(name))
        self.sent: list[tuple[str, Any]] = []
        self.timers: dict[str, tuple[int, int]] = {}  # name to deadline and generation
        self.step((p.START, "", dict(self.disk), len(self.disk)))

    def step(self, given: p.Input, *, durable: bool = True) -> list[str]:
        """Take a step and those in which its saves become durable; returns the kinds of what it decided."""
        queue, kinds = [given], list[str]()
        while queue:
            for effect in self.cell.step(self.now, 0, queue.pop(0)):
                if effect[0] == p.SEND:
                    self.sent.append((effect[2], self.cell._decode[""](effect[3])))
                elif effect[0] == p.SET_TIMER:
                    self.timers[effect[2]] = effect[3:]
                elif effect[0] == p.CANCEL_TIMER:
                    del self.timers[effect[2]]
                elif effect[0] == p.DECIDE:
                    kinds.append(effect[2])
                elif effect[0] == p.SAVE and durable:
                    for key, value in effect[3]:
                        self.disk.update({key[1:]: value} if value is not None else {})
                        if value is None:
                            self.disk.pop(key[1:], None)
                    queue.append((p.DURABLE, "", effect[2]))
        return kinds

    def tell(self, message: Any) -> None:
        """Give it a local message, as its state machine would; it is taken with the next step."""
        self.cell._local.append(("", "app", message))
        self.hear("n0" if self.name != "n0" else "n1", m.Missing(1, b""))

    def fire(self, name: str) -> None:
        """Let time pass until this timer fires."""
        self.now, generation = self.timers.pop(name)
        self.step((p.TIMER, "", name, generation))

    def hear(self, sender: str, *messages: Any, durable: bool = True) -> None:
        for message in messages:
            self.step((p.MESSAGE, "", sender, encode(message)), durable=durable)

    def said(self, kind: type) -> list[Any]:
        """Return what it told n1 (n2 if it is n1) of one class."""
        to = "n1" if self.name != "n1" else "n2"
        return [message for name, message in self.sent if name == to and isinstance(message, kind)]

    def again(self) -> One:
        """Return the member's next life, with what was durable."""
        return One(self.name, {f"/{k}": v for k, v in self.disk.items()})


def bare(view: int, seq: int, batch: m.Batch) -> m.Prepared:
    return m.Prepared(view, seq, m.digest_of(batch), b"", ())


def new_view(
    changes: tuple[m.ViewChange, ...], view: int = 1, places: list[tuple[int, bytes]] | None = None
) -> m.NewView:
    primary = NAMES[view % 4]
    places = again(changes)[1] if places is None else places
    made = tuple(SIGN[primary]("pre-prepare", view, seq, digest) for seq, digest in places)
    return m.NewView(view, changes, made, SIGN[primary]("new-view", view, m.digest_of((changes, made))))
