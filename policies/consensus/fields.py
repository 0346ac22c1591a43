"""Fields of what members say to one another, bounded: a message beyond them is malformed, and the Cell drops it.

Much of what is said is remembered before, or although, nobody verifies it: a contradiction that may yet come, the
certificate of a block that is committed anyhow. So a liar's field may be false, and is no larger than a true one.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.jobs import Name

MEMBERS_MAX = 512
"""Members and learners of an epoch (our bound; a committee is far smaller)."""
Digest = Annotated[bytes, Meta(max_length=32)]
"""A BLAKE2b-256 digest, or nothing."""
Signature = Annotated[bytes, Meta(max_length=64)]
"""An Ed25519 signature (RFC 8032), or nothing."""
Votes = Annotated[tuple[tuple[Name, Signature], ...], Meta(max_length=MEMBERS_MAX)]
"""(member, signature), of no more than there may be."""
