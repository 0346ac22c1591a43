"""The line that replays a trial: everything about it, in one word that survives a chat window.

``hunt:VERSION+SOURCES:ARENA:POLICY:SEED:TRIAL.CHECKSUM``: the readable fields tell a person what it is; the trial
itself (MessagePack, deflated, URL-safe base 64) is what runs. The version names the sources that a run depends on:
others may make something else of the same trial, so a line of theirs is refused unless asked otherwise.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

from experiments.compose import UsageError
from scenarios.digests import tree_sha256
from scenarios.trial import Trial

FORM = "hunt"
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("models", "policies", "scenarios", "sim", "experiments/hunt")
"""What decides the outcome of a trial."""


@cache
def version() -> str:
    """Return the version of what runs trials: the project's, and a digest of the sources."""
    return f"{metadata.version('villagetwin')}+{tree_sha256(ROOT / name for name in SOURCES)[:8]}"


def write_line(trial: Trial) -> str:
    """Return the line of a trial."""
    packed = zlib.compress(msgspec.msgpack.encode(trial), 9)
    body = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    text = f"{FORM}:{version()}:{trial.arena}:{trial.policy}:{trial.seed}:{body}"
    return f"{text}.{_checksum(text)}"


def read_line(line: str, *, any_version: bool = False) -> Trial:
    """Return the trial of a line.

    Raises:
        UsageError: it is no line, it was cut or changed, or another version wrote it.
    """
    line = "".join(line.split())  # pasting may have wrapped it
    text, _, checksum = line.rpartition(".")
    parts = text.split(":")
    if len(parts) != 6 or parts[0] != FORM:
        raise UsageError(f"replay: {line[:40]!r} is no line of a hunt; allowed: {FORM}:VERSION:ARENA:POLICY:SEED:TRIAL")
    if _checksum(text) != checksum:
        raise UsageError(f"replay: the line of seed {parts[4]} was cut or changed: its checksum is {checksum!r}")
    if parts[1] != version() and not any_version:
        raise UsageError(
            f"replay: version={parts[1]} wrote this line; allowed: {version()}, which this is (--any-version tries)"
        )
    try:
        packed = base64.urlsafe_b64decode(parts[5] + "=" * (-len(parts[5]) % 4))
        return msgspec.msgpack.decode(zlib.decompress(packed), type=Trial)
    except (binascii.Error, zlib.error, msgspec.MsgspecError) as error:
        raise UsageError(f"replay: the trial of seed {parts[4]} cannot be read by this version: {error}") from None


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
