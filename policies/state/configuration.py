"""The dynamic configuration: named registers, each with a version that every write moves by one.

`Configure` is how a policy is changed while it runs: it names the version it was decided for, so that of two changes
made in ignorance of one another the later is refused. The other operations make the registers a shared memory for
clients.
"""

from __future__ import annotations

from typing import Any

from policies.commands import Add, CompareAndSet, Configure, Operation, Value
from policies.state.part import Part
from policies.wire import Message

REGISTERS_MAX = 4096
KEY_BYTES_MAX, VALUE_BYTES_MAX = 128, 1024
"""Our bounds: the registers of a snapshot stay below 5 MiB."""
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class Result(Message, frozen=True, tag="result"):
    """What an operation on a register came to: ``ok``, or what it holds instead; version 0 and no value: nothing."""

    ok: bool
    value: Value | None
    version: int


class Configuration(Part):
    """Registers by name.

    Attributes:
        registers: key to (value, version).
    """

    name, form = "configuration", tuple[tuple[str, Value, int], ...]

    def __init__(self) -> None:
        self.registers: dict[str, tuple[Value, int]] = {}

    def get(self, key: str) -> Result:
        """Return what a register holds."""
        value, version = self.registers.get(key, (None, 0))
        return Result(version > 0, value, version)

    def apply(self, operation: Operation) -> Result:
        """Carry out an operation, or leave the register as it is and return what it holds."""
        key = operation.key
        held, version = self.registers.get(key, (None, 0))
        new: Value
        if isinstance(operation, Add):
            if not isinstance(held, int | None) or not _INT_MIN <= (held or 0) + operation.amount <= _INT_MAX:
                return Result(False, held, version)
            new = (held or 0) + operation.amount
        else:
            stale = isinstance(operation, Configure) and operation.expected_version != version
            differs = isinstance(operation, CompareAndSet) and not (
                type(held) is type(operation.expected) and held == operation.expected
            )
            if stale or differs:
                return Result(False, held, version)
            new = operation.value
        if not _fits(key, new) or (not version and len(self.registers) >= REGISTERS_MAX):
            return Result(False, held, version)
        self.registers[key] = (new, version + 1)
        return Result(True, new, version + 1)

    def saved(self) -> Any:
        return tuple((key, value, version) for key, (value, version) in self.registers.items())

    def load(self, saved: Any) -> None:
        self.registers = {key: (value, version) for key, value, version in saved}
        if len(self.registers) < len(saved) or len(self.registers) > REGISTERS_MAX:
            raise ValueError(f"{len(saved)} registers, {len(self.registers)} names, at most {REGISTERS_MAX}")
        if wrong := [key for key, value, version in saved if version < 1 or not _fits(key, value)]:
            raise ValueError(f"register {wrong[0]!r} has no version or is too large")


def _fits(key: str, value: Value) -> bool:
    large = isinstance(value, str) and len(value.encode()) > VALUE_BYTES_MAX
    return 0 < len(key.encode()) <= KEY_BYTES_MAX and not large
