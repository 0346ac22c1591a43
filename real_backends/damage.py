"""What a node says that cannot go on with what its disk holds: one line, with the file, the place, and what to do.

Whoever keeps the log has promised: it voted, and said that entries are durable. What of it is lost nobody can tell from
a damaged file, and a member that went on without it could vote twice, which a committee bears of few. So such a file is
neither mended nor forgotten under the same key, and an older copy is as bad as none. A worker has promised nothing.
"""

from __future__ import annotations

from pathlib import Path

from policies.config import FixedConfig
from policies.consensus import bears_liars
from policies.consensus.quorum import faults
from policies.log import DamagedLog
from policies.village import NodeSpec

COPY = (
    "a copy made since it last stopped may take its place, an older one not; without one the device may come back only "
    "under another name and key, in a village founded anew"
)
UNKNOWN = f"do not mend or delete it: what this node promised would be forgotten; {COPY}"
MEMBER = "do not mend or delete it: what this member voted would be forgotten, and it could vote twice"
WORKER = "delete it and start the node again: a worker has promised nothing, and hears again who sits"


def advice(spec: NodeSpec, *, own: bool = False) -> str:
    """Return what the owner of a node whose record log is damaged should do.

    Args:
        spec: which node it is.
        own: whether it runs policies of its user's, of which nobody here knows what they promise.
    """
    if own:
        return UNKNOWN
    if spec.me not in spec.standing:
        return WORKER
    count = len(spec.committee)
    suffice = count - (faults(count) if bears_liars(spec.config.consensus) else (count - 1) // 2)
    if not isinstance(spec.config.committee, FixedConfig):
        meanwhile = "the council seats another device in its place"
    elif suffice < count:
        meanwhile = f"{suffice} of the {count} members suffice without it"
    else:
        meanwhile = "no member is to spare"
    return f"{MEMBER}; {meanwhile}; {COPY}"


def told(error: Exception, file: Path, todo: str) -> DamagedLog:
    """Return the error of a node that cannot go on with what this file holds, in one line."""
    line = DamagedLog(f"{file}: {' '.join(str(error).split())}: {todo}")
    line.__cause__ = error
    return line
