"""Who is who: Ed25519 identities, the certificates a village issues at join, and the registry that decides.

A node's id is the digest of its raw public key. Scenarios use human names; the registry maps each name to a
key. A certificate only proves that its holder was admitted once; the registry says who is a member now.
"""

from __future__ import annotations

import datetime
import json
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from policies.wire import digest

Registry = dict[str, bytes]
"""Node name to raw Ed25519 public key, 32 bytes (RFC 8032)."""

OWNER = "owner"
"""The launcher's name in the registry: it may give control frames, speaks for clients, and no fault touches it."""

VALID_DAYS = 365  # assumption: a village renews its certificates once a year
CLOCK_SLACK_DAYS = 1  # assumption: wall clocks of joining devices are wrong by less than this


@dataclass(frozen=True)
class Identity:
    """Where one node's key and certificates lie."""

    name: str
    folder: Path

    @property
    def key_path(self) -> Path:
        """Private key, PEM, readable by its owner only."""
        return self.folder / f"{self.name}.key"

    @property
    def certificate_path(self) -> Path:
        """Certificate, PEM, issued by the village."""
        return self.folder / f"{self.name}.crt"

    @property
    def village_path(self) -> Path:
        """The village's own certificate, PEM."""
        return self.folder / "village.crt"

    def private_key(self) -> Ed25519PrivateKey:
        """Return this node's key."""
        key = serialization.load_pem_private_key(self.key_path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{self.key_path.name}: expected an Ed25519 key, got {type(key).__name__}")
        return key

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Return a TLS context: version 1.3 and nothing else, both sides show a certificate of this village.

        Host names are not checked: a peer is its key, and the caller compares that with the registry.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate_path, self.key_path)
        context.load_verify_locations(self.village_path)
        return context


def node_id(public_key: bytes) -> str:
    """Return the id of the node that holds ``public_key`` (32 raw bytes)."""
    return digest(public_key)


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the raw public key, 32 bytes."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def peer_public_key(certificate_der: bytes | None) -> bytes:
    """Return the raw Ed25519 key a TLS peer has proved to hold.

    Raises:
        ValueError: no certificate, or one whose key is of another kind.
    """
    if certificate_der is None:
        raise ValueError("the peer showed no certificate")
    key = x509.load_der_x509_certificate(certificate_der).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"the peer's key is {type(key).__name__}, expected Ed25519")
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def make_village(folder: Path, names: Iterable[str]) -> Registry:
    """Make a village: its own key and certificate, one identity a name, and ``registry.json``.

    Raises:
        ValueError: a name is used twice or cannot be a file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    village_key = Ed25519PrivateKey.generate()
    village_name = _name("village " + node_id(public_bytes(village_key))[:8])
    certificate = _sign(village_name, village_key, village_name, village_key, is_village=True)
    _write_private(folder / "village.key", village_key)
    (folder / "village.crt").write_bytes(certificate)
    registry: Registry = {}
    for name in names:
        if name in registry or name == "village" or not name or "/" in name or name.startswith("."):
            raise ValueError(f"name={name!r}: allowed are distinct file names other than 'village'")
        key = Ed25519PrivateKey.generate()
        identity = Identity(name, folder)
        _write_private(identity.key_path, key)
        issued = _sign(_name(node_id(public_bytes(key))), key, village_name, village_key, is_village=False)
        identity.certificate_path.write_bytes(issued)
        registry[name] = public_bytes(key)
    write_registry(folder, registry)
    return registry


def write_registry(folder: Path, registry: Mapping[str, bytes]) -> None:
    """Write ``registry.json``: name to hexadecimal public key."""
    text = json.dumps({name: key.hex() for name, key in registry.items()}, indent=1)
    (folder / "registry.json").write_text(text + "\n")


def read_registry(folder: Path) -> Registry:
    """Read what `write_registry` wrote."""
    plain = json.loads((folder / "registry.json").read_text())
    return {name: bytes.fromhex(key) for name, key in plain.items()}


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _sign(
    subject: x509.Name,
    key: Ed25519PrivateKey,
    issuer: x509.Name,
    issuer_key: Ed25519PrivateKey,
    *,
    is_village: bool,
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    constraints = x509.BasicConstraints(ca=is_village, path_length=0 if is_village else None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=CLOCK_SLACK_DAYS))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(constraints, critical=True)
    )
    certificate = builder.sign(issuer_key, None)  # None: Ed25519 fixes its own hash
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_private(path: Path, key: Ed25519PrivateKey) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
