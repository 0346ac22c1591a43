"""Wire format: what a message is, how it becomes bytes, how bytes are digested.

Messages are small frozen structs, encoded as MessagePack arrays in *both* worlds, so that shared
references and types that do not travel cannot hide in a simulation. Sizes are the encoded sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Union

import msgspec

WIRE_VERSION = 8
"""Of everything encoded here; two nodes that disagree refuse each other's links. 2: requests say how their tokens are
chosen, and steps of a pipeline carry it to the last stage; a frame may hold the steps of many sessions. 3: a state
comes with the ends of the last epochs before it only, and members vouch for epochs (`policies.consensus.vouching`).
4: members sign evictions, have checkpoints where nothing but reads was ordered, and order for others nothing that is
the leader's alone. 5: heartbeats of phi accrual say which life of the receiver is known; who is to hold layers is told
for which pipeline, and standbys whose copies they take. 6: a block's name covers its certificate's signatures.
7: what members of HotStuff sign names the log, and their evidence shows it. 8: readings say how much memory is free; a
piece of a blob is asked for by its size."""
FRAME_OVERHEAD_BYTES = 62
"""Bytes a frame adds on a TLS 1.3 link: TCP and IPv4 headers 40 (RFC 9293, 791), record 22 (RFC 8446)."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """Base of everything that travels. Subclass it with a ``tag``: ``class Ping(Message, tag="ping")``.

    Nothing may follow a message's fields: msgspec would read over it, as deep as it is, and fail by a `RecursionError`
    at a depth that depends on the caller, so that a liar could stop every reader, or have replicas differ.
    """


class WireError(ValueError):
    """The peer sent bytes that are not one of the messages this policy declares."""


_encoder = msgspec.msgpack.Encoder(order="deterministic")
encode = _encoder.encode
"""Encode a message, or any plain value, to canonical MessagePack bytes."""

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, WireError)
"""What a decoding function raises."""


class Codec:
    """Decodes exactly the message classes a policy declares, and nothing else."""

    def __init__(self, messages: Iterable[type[Message]]) -> None:
        self._decode = decoder(tuple(messages))

    def decode(self, payload: bytes) -> Any:
        """Return the message in ``payload``.

        Raises:
            WireError: the bytes are malformed or of a class not declared.
        """
        try:
            return self._decode(payload)
        except MALFORMED as error:
            raise WireError(str(error)) from None


@cache  # one for each set of messages that the program knows
def decoder(classes: tuple[type[Message], ...]) -> Callable[[bytes], Any]:
    """Return what `Codec` decodes with, a call cheaper; it raises one of `MALFORMED`."""
    if not classes:
        return _refuse
    union: Any = Union[classes]  # noqa: UP007  (built at run time)
    return msgspec.msgpack.Decoder(union).decode


def _refuse(payload: bytes) -> Any:
    raise WireError("this policy declares no messages")


def digest(data: bytes) -> str:
    """Content name of a blob: BLAKE2b-160 in hexadecimal (RFC 7693)."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()
