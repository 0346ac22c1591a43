"""The guard: steps that are watched, so that a policy which is no pure function of its inputs is named at once.

Three nets, each of which catches what the others let through. **Poison** (`sim.poison`): clocks, chance and I/O raise.
**Copy**: every ``copy_every``-th step is first taken by a fresh Cell with the same state; effects and state after must
be the same, and nothing but the Cell may have changed: neither class, nor module, nor closure. **Budget**:
effects, bytes, and lines run in functions with a loop, all counted and none timed, so that a verdict is the same
everywhere.

A world without a guard runs exactly the code it ran before: a guard takes the place of a Cell's ``step``.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from policies.cell import Cell
from policies.frozen import FreezeError
from policies.port import INPUT_NAMES, TIMER, Effect, Input, Policy
from policies.wire import encode
from sim.poison import Poison, PurityError
from sim.shared import Shared, users

LINES_MAX = 200_000
"""Lines one step may run in functions with loops: some 10 ms of Python, twice what a step may take on the reference
CPU."""
EFFECTS_MAX = 10_000
"""Effects of one step; a node's outbox is bounded far below that."""
BYTES_MAX = 64 * 2**20
"""Encoded bytes of one step's effects (assumption: more than any node may queue at its access link)."""


@dataclass(frozen=True)
class Guards:
    """Which nets a world spreads.

    Attributes:
        poison: clocks, chance and I/O raise in every step.
        copy_every: of a node's steps each so-manieth is taken by a copy, too; 0: none.
        lines_max, effects_max, bytes_max: a step's budget; ``lines_max`` 0: lines are not counted.
    """

    poison: bool = True
    copy_every: int = 16
    lines_max: int = LINES_MAX
    effects_max: int = EFFECTS_MAX
    bytes_max: int = BYTES_MAX

    def __post_init__(self) -> None:
        for name, least in (("copy_every", 0), ("lines_max", 0), ("effects_max", 1), ("bytes_max", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"guards.{name}={value}: allowed are {least} or more")


class StepTooLongError(BaseException):
    """A step ran too many lines. Not an Exception, so that no handler of the policy's own swallows it."""


class Guard:
    """Watches the Cells of one world. It is a context: inside it, banned functions are poisoned."""

    def __init__(self, guards: Guards) -> None:
        self.guards = guards
        self.poison = Poison()
        self._lines = _Lines(guards.lines_max)
        self._shared: dict[tuple[type[Policy], ...], Shared] = {}

    def watch(self, steps: Any, make: Callable[[], Any]) -> None:
        """Take the place of the step of a Cell, or of the Cell that an adversary wraps; ``make`` makes another."""
        cell = _honest(steps)
        kinds = tuple(type(cell.policy(path)) for path in cell.paths)
        self.poison.cover(base.__module__ for kind in kinds for base in users(kind))
        shared = self._shared.get(kinds) or self._shared.setdefault(kinds, Shared(kinds))
        vars(cell)["step"] = _Step(self, cell, lambda: _honest(make()), shared)


def _honest(steps: Any) -> Cell:
    while not isinstance(steps, Cell):
        if not hasattr(steps, "cell"):
            raise ValueError(f"guards: {type(steps).__name__} is no policies.cell.Cell and has none as its cell")
        steps = steps.cell
    return steps


class _Step:
    """One Cell's guarded step."""

    def __init__(self, guard: Guard, cell: Cell, make: Callable[[], Cell], shared: Shared) -> None:
        self.guard, self.cell, self.make, self.shared = guard, cell, make, shared
        self.real = cell.step
        self.copy: Cell | None = None
        self.count = 0

    def __call__(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        guards = self.guard.guards
        if not guards.copy_every or self.count % guards.copy_every:
            self.count += 1
            return self._budgeted(self.real, now, wall, given)
        self.count += 1
        if self.copy is None:
            self.copy = self.make()
        before, shared = self._frozen(self.cell), self.shared.read()
        copy = self.copy
        copy.thaw(before)
        copied = self._budgeted(lambda *step: Cell.step(copy, *step), now, wall, given)
        if changed := [name for name, state in self.shared.read().items() if state != shared[name]]:
            raise PurityError(f"{self._at(given)}: {changed[-1]} changed in a step; keep state on self")
        effects = self._budgeted(self.real, now, wall, given)
        if copied != effects:
            raise PurityError(f"{self._at(given)}: a copy of the state takes another step: {_differ(copied, effects)}")
        if self._frozen(copy) != self._frozen(self.cell):
            raise PurityError(f"{self._at(given)}: a copy of the state ends in another state")
        return effects

    def _frozen(self, cell: Cell) -> bytes:
        try:
            return cell.freeze()
        except FreezeError as error:
            raise PurityError(f"{self.cell.me}: {error}; keep plain values on self") from None

    def _budgeted(
        self, step: Callable[[int, int, Input], tuple[Effect, ...]], now: int, wall: int, given: Input
    ) -> tuple[Effect, ...]:
        guards, poison, lines = self.guard.guards, self.guard.poison, self.guard._lines
        before = sys.gettrace()
        poison.caught, lines.left = None, guards.lines_max
        try:
            with poison:  # installed already within a run; a step outside one pays for it
                poison.on = guards.poison
                if guards.lines_max:
                    sys.settrace(lines.call)
                effects = step(now, wall, given)
                poison.on = False
                sys.settrace(before)
        except StepTooLongError as error:
            what = f"a step ran {guards.lines_max:,} lines of the policy; it must end"
            raise PurityError(f"{error}: {what} ({self._at(given)})") from None
        finally:
            poison.on = False
            sys.settrace(before)
        if poison.caught is not None:
            raise poison.caught
        if len(effects) > guards.effects_max:
            allowed = f"allowed are {guards.effects_max:,}"
            raise PurityError(f"{self.cell.me}: {len(effects):,} effects of one step, {name_of(given)}; {allowed}")
        if (size := len(encode(effects))) > guards.bytes_max:
            allowed = f"allowed are {guards.bytes_max:,}"
            raise PurityError(f"{self.cell.me}: {size:,} bytes of effects of one step, {name_of(given)}; {allowed}")
        return effects

    def _at(self, given: Input) -> str:
        policies = self.cell.paths
        path = given[1] if given[1] in policies else policies[0]
        return f"{self.cell.me}: {type(self.cell.policy(path)).__qualname__}.{name_of(given)}"


class _Lines:
    """Counts the lines run in functions that have a loop, outside Python's own library."""

    def __init__(self, most: int) -> None:
        self.left = most
        self._loops: dict[CodeType, bool] = {}

    def call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        loops = self._loops.get(code)
        if loops is None:
            loops = self._loops[code] = not code.co_filename.startswith(_LIBRARIES) and _has_loop(code)
        self.left -= 1
        if self.left < 0:
            self._stop(frame)
        return self._line if loops else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self._stop(frame)
        return self._line

    def _stop(self, frame: FrameType) -> None:
        raise StepTooLongError(f"{frame.f_code.co_filename}:{frame.f_lineno}")


_LIBRARIES = (
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}, "<frozen",
)  # fmt: skip


def _has_loop(code: CodeType) -> bool:
    return any("JUMP_BACKWARD" in instruction.opname for instruction in dis.get_instructions(code))


def name_of(given: Input) -> str:
    """Return the handler an input goes to, with the timer's name."""
    return f"on_{INPUT_NAMES[given[0]]}" + (f"({given[2]!r})" if given[0] == TIMER else "")


def _differ(one: tuple[Effect, ...], other: tuple[Effect, ...]) -> str:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return f"{a!r:.80} against {b!r:.80}"
    return f"{len(one)} effects against {len(other)}"
