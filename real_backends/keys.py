"""The real key handle of a node: Ed25519 through the registry (RFC 8032)."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class Ed25519Keys:
    """Signs as one node and verifies any node of the registry; implements `policies.port.Keys`.

    Args:
        key: this node's private key.
        registry: name to raw public key; looked up at each call, so that changes count at once.
    """

    def __init__(self, key: Ed25519PrivateKey, registry: Mapping[str, bytes]) -> None:
        self._key, self._registry = key, registry

    def sign(self, data: bytes) -> bytes:
        """Return this node's 64-byte signature of ``data``."""
        return self._key.sign(data)

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        """Return whether ``signature`` is ``identity``'s over ``data``; unknown ones signed nothing."""
        public_key = self._registry.get(identity)
        if public_key is None:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True
