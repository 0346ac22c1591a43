"""Model signatures for large simulations: keyed BLAKE2b held by the simulator, with Ed25519's interface and length.

A policy cannot forge what it has no handle for: `ModelKeys` of another identity is never given to it.
"""

from __future__ import annotations

from hashlib import blake2b

SIGNATURE_BYTES = 64
"""Length of an Ed25519 signature (RFC 8032)."""
REMEMBERED_MAX = 1024
"""Signatures remembered; what is verified again is most often fresh."""


class KeyRing:
    """All identities' secrets of one run.

    What one member signs all others verify, so the last signatures are remembered.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._secrets: dict[str, bytes] = {}
        self._made: dict[tuple[str, bytes], bytes] = {}

    def signature(self, identity: str, data: bytes) -> bytes:
        """Return ``identity``'s signature of ``data``."""
        made = self._made.get((identity, data))
        return self._sign(identity, data) if made is None else made

    def _sign(self, identity: str, data: bytes) -> bytes:
        key = self._secrets.get(identity)
        if key is None:
            key = blake2b(f"{self._seed}\x00{identity}".encode(), digest_size=32, person=b"village.keys").digest()
            self._secrets[identity] = key
        signature = blake2b(data, key=key, digest_size=SIGNATURE_BYTES).digest()
        if len(self._made) == REMEMBERED_MAX:
            self._made.clear()
        self._made[identity, data] = signature
        return signature

    def handle(self, identity: str) -> ModelKeys:
        """Return the key handle of one identity."""
        return ModelKeys(self, identity)


class ModelKeys:
    """One identity's handle (`policies.port.Keys`)."""

    def __init__(self, ring: KeyRing, identity: str) -> None:
        self._ring, self._identity = ring, identity

    def sign(self, data: bytes) -> bytes:
        """Sign as this identity."""
        return self._ring.signature(self._identity, data)

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        """Check anybody's signature."""
        return self._ring.signature(identity, data) == signature
