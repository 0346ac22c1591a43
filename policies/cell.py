"""The Cell: one node's policies as one pure step, ``step(now, wall, input) -> effects``.

Every driver (simulate, serve, replay) uses the Cell and nothing else. It mounts policies by path, gives each its own
view of the port, and holds the durability horizon: what a policy sends, replies or decides waits
until all its earlier saves are durable, because an answer that outlives the vote it spoke of is a lie.

Inputs                                        Effects
(START, "", saved, incarnation)               (SEND, path, to, payload)   to is node or node/path
(MESSAGE, path, sender, payload)              (SET_TIMER, path, name, deadline_ns, generation)
(TIMER, path, name, generation)               (CANCEL_TIMER, path, name)
(REQUEST, path, client, op_id, payload)       (SAVE, path, token, ((key, value or None), ...))
(READINGS, path, payload)                     (SUBMIT, path, job_id, payload)   (CANCEL, path, job_id)
(DECISION, path, payload)                     (SENSE, path, every_ns)           (LIMIT, path, resource, share)
(JOB, path, job_id, payload)                  (REPLY, path, client, op_id, payload, last)
(PEER, path, peer, hint)                      (DECIDE, path, kind, payload)     (NOTE, path, name, fields)
(DURABLE, path, token)                        (SIGNED, path, signature or verdict)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import msgspec

from policies import port as p
from policies.frozen import Attributes, FreezeError, apply_state, freeze, thaw
from policies.jobs import Job, Outcome
from policies.port import DURABLE, MESSAGE, SEND, SET_TIMER, START, TIMER, Effect, Input, Keys, Policy
from policies.readings import Row, Verdict
from policies.rng import Rng
from policies.wire import MALFORMED, Message, decoder, encode

_row = msgspec.msgpack.Decoder(Row).decode
_verdict = msgspec.msgpack.Decoder(Verdict).decode
_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode

_WAITS_FOR_DURABILITY = frozenset((p.SEND, p.REPLY, p.DECIDE))


class Cell:
    """Holds the policies of one node, by path; ``""`` is the path of a policy that runs alone.

    Args:
        policies: path to policy; each object may be mounted once.
        me: this node's identity.
        peers: the other nodes, the same order on every node.
        seed: the run's seed; with node, path and incarnation it names every random stream.
        keys: this node's key handle.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy] | Policy,
        me: str,
        peers: tuple[str, ...],
        *,
        seed: int,
        keys: Keys,
    ) -> None:
        mounted = {"": policies} if isinstance(policies, Policy) else dict(policies)
        self.me, self.peers, self.seed = me, peers, seed
        self.now = self.wall = 0
        self.malformed = 0  # inputs refused by a codec
        self.crypto_ops = 0  # signatures made and verified, for the step's cost
        self._keys = keys
        self._out: list[Effect] = []
        self._early: list[Effect] = []
        self._local: deque[tuple[str, str, Message]] = deque()
        self._saves: dict[str, dict[str, bytes | None]] = {}
        self._held: dict[str, deque[tuple[int, list[Effect]]]] = {path: deque() for path in mounted}
        self._blocked: set[str] = set()  # paths with saves that are not durable yet
        # Tokens count by path, and so do timers' generations in each view, so that another child changes none of
        # them; job ids are the node's, because executors know a job by its node and id alone.
        self._tokens = dict.fromkeys(mounted, 0)
        self._next_job = 1
        self._timers: dict[tuple[str, str], int] = {}
        self._job_owner: dict[int, str] = {}
        self._policies: dict[str, Policy] = {}
        self._decode: dict[str, Callable[[bytes], Any]] = {}
        self._decode_request: dict[str, Callable[[bytes], Any]] = {}
        for path, policy in mounted.items():
            policy.port = _View(self, path)
            self._policies[path] = policy
            self._decode[path] = decoder(tuple(policy.messages))
            self._decode_request[path] = decoder(tuple(policy.requests))

    @property
    def paths(self) -> tuple[str, ...]:
        """The mounted paths."""
        return tuple(self._policies)

    def policy(self, path: str) -> Policy:
        """Return the policy at ``path``; for checks that look at state."""
        return self._policies[path]

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input and return the effects that may leave now."""
        self.now, self.wall = now, wall
        kind, path = given[0], given[1]
        self._out.clear()
        released: list[Effect] | None = None
        if kind == START:
            self._start(given[2], given[3])
        elif (policy := self._policies.get(path)) is None:
            self.malformed += 1
        elif kind == MESSAGE:
            try:
                message = self._decode[path](given[3])
            except MALFORMED:
                self.malformed += 1
            else:
                policy.on_message(given[2], message)
        elif kind == TIMER:
            key = (path, given[2])
            if self._timers.get(key) == given[3]:
                del self._timers[key]
                policy.on_timer(given[2])
        elif kind == DURABLE:
            released = self._release(path, given[2])
            policy.on_durable(given[2])
        elif kind == p.JOB:
            self._on_job(policy, given[2], given[3])
        elif kind == p.REQUEST:
            try:
                operation = self._decode_request[path](given[4])
            except MALFORMED:
                self.malformed += 1
            else:
                policy.on_request(given[2], given[3], operation)
        elif kind == p.READINGS:
            policy.on_readings(_row(given[2]))
        elif kind == p.DECISION:
            policy.on_decision(_verdict(given[2]))
        else:
            policy.on_peer(given[2], given[3])
        local = self._local
        while local:
            to, sender, message = local.popleft()
            self._policies[to].on_local(sender, message)
        if self._saves or self._blocked or self._early or released:
            return self._flush(released)
        return tuple(self._out)  # the common step

    def _start(self, saved: Mapping[str, bytes], incarnation: int) -> None:
        for path, policy in self._policies.items():
            view: _View = policy.port  # type: ignore[assignment]
            view.rng = Rng(self.seed, self.me, path, incarnation)
            prefix = path + "/"
            policy.on_start({k[len(prefix) :]: v for k, v in saved.items() if k.startswith(prefix)})

    def _on_job(self, policy: Policy, job_id: int, payload: bytes) -> None:
        if job_id not in self._job_owner:
            return  # cancelled, or finished already
        outcome = _outcome(payload)
        if type(outcome).__name__ != "Progress":
            del self._job_owner[job_id]
        policy.on_job(job_id, outcome)

    def _release(self, path: str, token: int) -> list[Effect]:
        held, released = self._held[path], []
        while held and held[0][0] <= token:
            released.extend(held.popleft()[1])
        if not held:
            self._blocked.discard(path)
        return released

    def _flush(self, released: list[Effect] | None) -> tuple[Effect, ...]:
        leaving: list[Effect] = released or []
        leaving += self._early
        self._early.clear()
        if not self._saves and not self._blocked:
            return (*leaving, *self._out)
        for path, batch in self._saves.items():
            token = self._tokens[path] = self._tokens[path] + 1
            leaving.append((p.SAVE, path, token, tuple(batch.items())))
            self._held[path].append((token, []))
            self._blocked.add(path)
        self._saves.clear()
        for effect in self._out:
            if effect[0] in _WAITS_FOR_DURABILITY and effect[1] in self._blocked:
                self._held[effect[1]][-1][1].append(effect)
            else:
                leaving.append(effect)
        return tuple(leaving)

    # -- state as bytes ------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        """Return all that a later step may depend on, as bytes that are equal for equal states (`policies.frozen`).

        Keys, peers and the seed are the Cell's and not its state; the outbox is empty between two steps.

        Raises:
            FreezeError: a policy holds what cannot be copied; the message names its class and attribute.
        """
        own = (
            self.malformed, self._next_job, sorted(self._timers.items()), sorted(self._job_owner.items()),
            sorted(self._tokens.items()), {path: list(held) for path, held in sorted(self._held.items())},
            self._blocked,
        )  # fmt: skip
        outside, policies = self._outside(), {}
        for path, policy in sorted(self._policies.items()):
            view: _View = policy.port  # type: ignore[assignment]
            try:
                policies[path] = freeze((view._generation, view.rng, Attributes(policy.__getstate__())), outside)
            except FreezeError as error:
                raise FreezeError(error.what, f"{type(policy).__qualname__}{error.where}") from None
        return freeze((own, policies), outside)

    def thaw(self, data: bytes, packages: tuple[str, ...] = ()) -> None:
        """Take over the state that `freeze` returned, of a Cell made as this one was; ``packages`` as in `frozen`."""
        outside = self._outside()
        own, policies = thaw(data, outside, packages)
        if policies.keys() != self._policies.keys():
            raise ValueError(f"state of {sorted(policies)}: allowed is that of {sorted(self._policies)}")
        self.malformed, self._next_job, timers, owners, tokens, held, self._blocked = own
        self._timers, self._job_owner, self._tokens = dict(timers), dict(owners), dict(tokens)
        self._held = {path: deque(batches) for path, batches in held.items()}
        for path, state in policies.items():
            policy = self._policies[path]
            view: _View = policy.port  # type: ignore[assignment]
            view._generation, view.rng, attributes = thaw(state, outside, packages)
            vars(policy).clear()
            apply_state(policy, attributes)

    def _outside(self) -> dict[str, object]:
        """What stays with this Cell when its state leaves it, by name."""
        ports = {f"port {path}": policy.port for path, policy in self._policies.items()}
        return {"cell": self, "keys": self._keys, **ports, **{f"policy {k}": v for k, v in self._policies.items()}}


class _View:
    """One policy's view of the port. Keys, timers, jobs and messages are named apart by its path."""

    __slots__ = ("_cell", "_generation", "_out", "_path", "_prefix", "_said", "keys", "me", "peers", "rng")

    def __init__(self, cell: Cell, path: str) -> None:
        self._cell, self._path, self._prefix = cell, path, path + "/"
        self._out = cell._out
        self._generation = 0
        self._said: tuple[Message | None, bytes] = (None, b"")
        self.me, self.peers = cell.me, cell.peers
        self.keys: Keys = _JournalledKeys(cell, path)
        self.rng = Rng(cell.seed, cell.me, path, 0)

    # Asked in most steps, so that they are read without a function of Python's.
    now = property(attrgetter("_cell.now"))
    wall = property(attrgetter("_cell.wall"))

    def send(self, to: str, message: Message, *, early: bool = False) -> None:
        said, payload = self._said
        if message is not said:  # else it is sent to several, one after another
            payload = encode(message)
            self._said = message, payload
        effect = (SEND, self._path, to, payload)
        (self._cell._early if early else self._out).append(effect)

    def broadcast(self, message: Message, *, early: bool = False) -> None:
        payload, out = encode(message), self._cell._early if early else self._out
        for peer in self.peers:
            out.append((p.SEND, self._path, peer, payload))

    def tell(self, path: str, message: Message) -> None:
        if path in self._cell._policies:
            self._cell._local.append((path, self._path, message))

    def set_timer(self, name: str, after_ns: int) -> None:
        cell = self._cell
        self._generation = generation = self._generation + 1
        cell._timers[(self._path, name)] = generation
        deadline = cell.now + after_ns if after_ns > 0 else cell.now
        self._out.append((SET_TIMER, self._path, name, deadline, generation))

    def cancel_timer(self, name: str) -> None:
        if self._cell._timers.pop((self._path, name), None) is not None:
            self._out.append((p.CANCEL_TIMER, self._path, name))

    def save(self, key: str, value: bytes) -> int:
        return self._batch(key, value)

    def erase(self, key: str) -> int:
        return self._batch(key, None)

    def _batch(self, key: str, value: bytes | None) -> int:
        self._cell._saves.setdefault(self._path, {})[self._prefix + key] = value
        return self._cell._tokens[self._path] + 1  # one batch a path and step

    def submit(self, job: Job) -> int:
        cell = self._cell
        job_id, cell._next_job = cell._next_job, cell._next_job + 1
        cell._job_owner[job_id] = self._path
        self._out.append((p.SUBMIT, self._path, job_id, encode(job)))
        return job_id

    def cancel(self, job_id: int) -> None:
        if self._cell._job_owner.pop(job_id, None) is not None:
            self._out.append((p.CANCEL, self._path, job_id))

    def sense(self, every_ns: int) -> None:
        self._out.append((p.SENSE, self._path, every_ns))

    def limit(self, resource: str, share: float) -> None:
        self._out.append((p.LIMIT, self._path, resource, share))

    def reply(self, client: str, op_id: str, part: Message, *, last: bool = True) -> None:
        self._out.append((p.REPLY, self._path, client, op_id, encode(part), last))

    def decide(self, kind: str, value: Message) -> None:
        self._out.append((p.DECIDE, self._path, kind, encode(value)))

    def note(self, name: str, /, **fields: int | float | str | bool) -> None:
        self._out.append((p.NOTE, self._path, name, fields))


class _JournalledKeys:
    """Signs through the node's handle and journals each answer, so that a replay needs no private key."""

    __slots__ = ("_cell", "_path")

    def __init__(self, cell: Cell, path: str) -> None:
        self._cell, self._path = cell, path

    def sign(self, data: bytes) -> bytes:
        signature = self._cell._keys.sign(data)
        self._cell.crypto_ops += 1
        self._cell._out.append((p.SIGNED, self._path, signature))
        return signature

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        verdict = self._cell._keys.verify(identity, data, signature)
        self._cell.crypto_ops += 1
        self._cell._out.append((p.SIGNED, self._path, verdict))
        return verdict
