"""Replay: a journal's inputs through fresh Cells; every step must have the effects it had."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.compose import UsageError
from scenarios.journal import Header, Row, effects_checksum, read

if TYPE_CHECKING:
    from policies.port import Keys
    from scenarios.adversaries.wrapped import Steps

Factory = Callable[["Keys"], "Steps"]

OURS = ("policies", "models")
"""A journal is data: the state that it begins with is made of these packages' classes, and none that it names else."""


@dataclass(frozen=True)
class Divergence:
    """The first step whose effects were not those of the journal.

    Attributes:
        node: whose journal.
        step: counted from 1, with those that the journal no longer has.
        now_ns: the node's clock at the step.
        given: the input's kind and path.
        effects: what the fresh Cell did instead, as text.
    """

    node: str
    step: int
    now_ns: int
    given: str
    effects: str

    def __str__(self) -> str:
        where = f"{self.node}: step {self.step:,} at {self.now_ns / 1e9:.6f} s"
        return f"{where}, input {self.given}: {self.effects}"


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes:
        steps: node to the number of equal steps.
        begins: node to the number of its steps before these, where its journal no longer has them.
        divergences: the first of each node that has one.
        changed: paths whose policy's source is not today's.
    """

    steps: dict[str, int]
    divergences: tuple[Divergence, ...]
    changed: tuple[str, ...] = ()
    begins: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether there was something to replay and all of it was equal."""
        return not self.divergences and sum(self.steps.values()) > 0


class JournalKeys:
    """A key handle that answers from the journal: a replay needs no private key."""

    def __init__(self) -> None:
        self._answers: deque[Any] = deque()

    def load(self, answers: list[Any]) -> None:
        """Hold the answers of the next step."""
        self._answers = deque(answers)

    def sign(self, data: bytes) -> bytes:
        """Return the signature that the node's handle gave."""
        return bytes(self._answers.popleft()) if self._answers else b""

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        """Return the verdict that the node's handle gave."""
        return bool(self._answers.popleft()) if self._answers else False


def replay(journals: dict[str, bytes], from_header: Callable[[Header], Factory] | None = None) -> Replayed:
    """Step fresh Cells through the journals of a run.

    Args:
        journals: node to its journal's bytes.
        from_header: makes a Cell factory of a journal's header; default `village_cell`.

    Raises:
        UsageError: the run has no journals, or one is not a journal.
    """
    if not journals:
        raise UsageError("replay: the run has no journals; record them with record.journals=all")
    make = from_header or village_cell
    steps: dict[str, int] = {}
    divergences: list[Divergence] = []
    changed: set[str] = set()
    begins: dict[str, int] = {}
    for node, data in sorted(journals.items()):
        try:
            header, rows = read(data)
        except ValueError as error:
            raise UsageError(f"replay: {node}: {error}") from None
        changed |= set(changed_sources(header.policies))
        begin, steps[node], found = _replay_one(header, make(header), rows)
        if begin:
            begins[node] = begin
        if found:
            divergences.append(found)
    return Replayed(steps, tuple(divergences), tuple(sorted(changed)), begins)


def changed_sources(policies: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the paths whose class is not, in today's sources, what its digest says."""
    from scenarios.digests import source_sha256

    for path, row in policies.items():
        subject = find_class(row.get("class", ""))
        if subject is None or source_sha256(subject) != row.get("source_sha256"):
            yield path


def find_class(name: str) -> Any:
    """Return the class named ``module:Class`` (or the module), or None; only policies are looked up."""
    from importlib import import_module

    module, _, inner = name.partition(":")
    if module.split(".")[0] != "policies":
        return None
    try:
        found: Any = import_module(module)
    except ImportError:
        return None
    for part in inner.split(".") if inner else ():
        found = getattr(found, part, None)
    return found


def village_cell(header: Header) -> Factory:
    """Return what builds a village node's Cell again from its journal's header, with the adversaries around it."""
    from policies import village
    from scenarios.adversaries.choose import play, role_in

    outside = [row["class"] for row in header.policies.values() if row["class"].split(".")[0] != "policies"]
    if outside:
        raise UsageError(f"replay: {header.node} ran {outside[0]}, which is not one of the village's policies")
    spec, role = village.from_plain(header.config), role_in(header.config)
    # Every handle answers from the journal, in the order in which the node and its adversaries asked.
    return lambda keys: play(
        role, lambda owned: village.cell(spec, owned), me=spec.me, peers=spec.peers, seed=spec.seed,
        key_of=lambda name: keys,
    )  # fmt: skip


def _replay_one(header: Header, factory: Factory, rows: Iterator[Row]) -> tuple[int, int, Divergence | None]:
    """Return how many steps came before those that could be replayed, how many were equal, and the first that was not.

    Raises:
        UsageError: the journal goes on from a state that these policies do not have.
    """
    from policies.port import EFFECT_NAMES, INPUT_NAMES, START

    keys = JournalKeys()
    cell, begin, steps = factory(keys), header.steps_before, 0
    stands = begin == 0  # whether this Cell is as the node's was
    if header.state:
        try:
            cell.thaw(header.state, OURS)  # type: ignore[attr-defined]  # what has a state is a Cell
        except Exception as error:
            why = f"the state after {begin:,} steps is not one of today's policies"
            raise UsageError(f"replay: {header.node}: {why} ({type(error).__name__}: {error})") from None
        stands = True
    for now, wall, given, checksum, answers in rows:
        if given[0] == START and (steps or begin):
            cell, stands = factory(keys), True  # a restart begins with nothing but what was durable
        if not stands:
            begin += 1
            continue
        keys.load(answers)
        kind, step = f"{INPUT_NAMES[given[0]]}({given[1]})", begin + steps + 1
        try:
            effects = cell.step(now, wall, given)
        except Exception as error:  # a changed policy may stumble over yesterday's input: that is a divergence
            return begin, steps, Divergence(header.node, step, now, kind, f"{type(error).__name__}: {error}")
        if effects_checksum(effects) != checksum:
            text = ", ".join(f"{EFFECT_NAMES[effect[0]]}({effect[1]})" for effect in effects) or "no effects"
            return begin, steps, Divergence(header.node, step, now, kind, f"now {text}")
        steps += 1
    return begin, steps, None
