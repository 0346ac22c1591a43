"""Activations as bytes: what one shard sends to the next over a link.

Layout, little endian: magic b"VTA1", one byte of type, one byte of dimensions (1 or 2), two zero bytes, then
each dimension as uint32, then the values in row order. The length is implied exactly by the header.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"VTA1"
HEADER = struct.Struct("<4sBBH")
TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<i8")}
# Assumption: 64 MiB holds a 2048-token prefill of width 8192; a longer claim is an attack or a mistake.
PAYLOAD_MAX_BYTES = 64 * 2**20


def pack_activation(array: npt.NDArray[Any]) -> bytes:
    """Encode float32 activations or logits, or int64 token ids."""
    kinds = [kind for kind, dtype in TYPES.items() if array.dtype.newbyteorder("<") == dtype]
    if not kinds:
        raise ValueError(f"activation: type {array.dtype} is not allowed, expected float32 or int64")
    if array.ndim not in (1, 2):
        raise ValueError(f"activation: {array.ndim} dimensions are not allowed, expected 1 or 2")
    if array.nbytes > PAYLOAD_MAX_BYTES:
        raise ValueError(f"activation: {array.nbytes} bytes are not allowed, at most {PAYLOAD_MAX_BYTES}")
    head = HEADER.pack(MAGIC, kinds[0], array.ndim, 0)
    return head + struct.pack(f"<{array.ndim}I", *array.shape) + array.astype(TYPES[kinds[0]]).tobytes()


def unpack_activation(data: bytes) -> npt.NDArray[Any]:
    """Decode and check bytes from a peer, which may be wrong or hostile.

    Raises:
        ValueError: unknown header, impossible size, a length that does not match, or values that are not
            finite.
    """
    if len(data) < HEADER.size:
        raise ValueError(f"activation: {len(data)} bytes are too few, the header has {HEADER.size}")
    magic, kind, dimensions, zero = HEADER.unpack_from(data)
    if magic != MAGIC or kind not in TYPES or dimensions not in (1, 2) or zero:
        raise ValueError(f"activation: unknown header {data[: HEADER.size].hex()}")
    start = HEADER.size + 4 * dimensions
    if len(data) < start:
        raise ValueError(f"activation: {len(data)} bytes are too few for {dimensions} dimensions")
    shape = struct.unpack_from(f"<{dimensions}I", data, HEADER.size)
    expected_bytes = math.prod(shape) * TYPES[kind].itemsize
    if expected_bytes > PAYLOAD_MAX_BYTES:
        raise ValueError(f"activation: shape {shape} claims {expected_bytes} bytes, at most {PAYLOAD_MAX_BYTES}")
    if len(data) - start != expected_bytes:
        raise ValueError(f"activation: {len(data) - start} bytes of values, shape {shape} needs {expected_bytes}")
    # A copy: the values outlive the network buffer, are writable, and have the machine's own byte order.
    native = TYPES[kind].newbyteorder("=")
    array = np.frombuffer(data, dtype=TYPES[kind], offset=start).reshape(shape).astype(native)
    if not np.isfinite(array).all():
        raise ValueError("activation: holds values that are not finite")
    return array
