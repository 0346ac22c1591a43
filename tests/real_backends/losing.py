"""What a disk that lied about `fsync` has lost when its machine is killed: the last of what it said was durable."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from policies.log import frames

LOST = 24
"""Records that go, in-flight ones included: several promises, and what was decided by them."""
_durable = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode


def lose(log: Path, what: Literal["lost", "torn"]) -> int:
    """Cut a node's file of records back by the last few, and the first of them in the middle if it is ``torn``.

    Returns:
        how many of them had been acknowledged: the last record says what was durable when it was written.
    """
    data = log.read_bytes()
    records = list(frames(data))
    if len(records) <= LOST:
        return 0
    durable, _ = _durable(records[-1][0])
    kept, torn = records[-LOST - 1][1], records[-LOST][1]
    log.write_bytes(data[: kept if what == "lost" else (kept + torn) // 2])
    return sum(kept < end <= durable for _, end in records)
