"""A hash tree over a list of byte strings: one root stands for all, and a path proves that one of them is in it.

The tree is that of certificate transparency (RFC 6962, section 2.1): SHA-256, leaves hashed with a zero byte before
them and nodes with a one, so that no node can be shown as a leaf; a list is split at the largest power of two below its
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32


def hash_leaf(leaf: bytes) -> bytes:
    """Return the hash that stands for a leaf."""
    return sha256(b"\x00" + leaf).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaves that `hash_leaf` has hashed; no leaves have the hash of nothing."""
    if not hashes:
        return sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    cut = _cut(len(hashes))
    return _join(root_of(hashes[:cut]), root_of(hashes[cut:]))


def path_to(hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the hashes that lead from leaf ``index`` to the root, nearest first.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index}: allowed are 0 to {len(hashes) - 1}")
    if len(hashes) == 1:
        return ()
    cut = _cut(len(hashes))
    if index < cut:
        return (*path_to(hashes[:cut], index), root_of(hashes[cut:]))
    return (*path_to(hashes[cut:], index - cut), root_of(hashes[:cut]))


def is_in(root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
    """Whether ``leaf`` is number ``index`` of the ``count`` leaves under ``root``."""
    if not 0 <= index < count:
        return False
    turns = []  # from the root down: whether the leaf stands in the right half
    while count > 1:
        cut = _cut(count)
        turns.append(index >= cut)
        index, count = (index - cut, count - cut) if index >= cut else (index, cut)
    if len(path) != len(turns):
        return False
    found = hash_leaf(leaf)
    for right, other in zip(reversed(turns), path, strict=True):
        found = _join(other, found) if right else _join(found, other)
    return found == root


def _cut(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def _join(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
