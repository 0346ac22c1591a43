"""Activations as frames: what one shard sends to the next over a link.

A frame holds the array's own memory and is encoded once, into the message that goes to the socket; what arrives is a
view into the message that came. Values are little endian. A frame says how it is coded, so a receiver needs no setting:

    f32    float32, as computed
    i64    token ids
    f16    float32 rounded to float16: half the bytes
    int8   a row as 255 levels and a float32 scale: a quarter of the bytes

The last two are lossy and a choice of the sender (`CODINGS`). A frame with a value beyond float16's range goes as f32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.wire import Message
from real_backends.executors.precision import quantise_rows

TYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"), "i64": np.dtype("<i8"), "f16": np.dtype("<f2"), "int8": np.dtype("i1"),
}  # fmt: skip
CODINGS = ("f32", "f16", "int8")
# Assumption: 64 MiB holds a 2048-token prefill of width 8192; a longer claim is an attack or a mistake.
PAYLOAD_MAX_BYTES = 64 * 2**20


class Activation(Message, frozen=True):
    """An array on its way.

    Attributes:
        coding: a name of `TYPES`.
        shape: [n] or [n, width].
        values: the values in row order.
        scales: float32 [n] of an int8 frame, else empty.
    """

    coding: str
    shape: tuple[int, ...]
    values: memoryview
    scales: memoryview = memoryview(b"")


def pack_activation(array: npt.NDArray[Any], coding: str = "f32") -> Activation:
    """Frame float32 activations or logits, or int64 token ids, which no coding touches.

    The frame shares the array's memory where it is contiguous and coded as it is.

    Raises:
        ValueError: another type, too many dimensions or bytes, or an unknown coding.
    """
    if coding not in CODINGS:
        raise ValueError(f"activation: coding {coding!r} is not allowed, expected one of {', '.join(CODINGS)}")
    if array.ndim not in (1, 2):
        raise ValueError(f"activation: {array.ndim} dimensions are not allowed, expected 1 or 2")
    if array.nbytes > PAYLOAD_MAX_BYTES:
        raise ValueError(f"activation: {array.nbytes} bytes are not allowed, at most {PAYLOAD_MAX_BYTES}")
    little = array.dtype.newbyteorder("<")
    if little == TYPES["i64"]:
        return Activation("i64", array.shape, _bytes_of(array, "i64"))
    if little != TYPES["f32"]:
        raise ValueError(f"activation: type {array.dtype} is not allowed, expected float32 or int64")
    if coding == "f16" and np.abs(array).max(initial=0.0) <= np.finfo(np.float16).max:
        return Activation("f16", array.shape, _bytes_of(array, "f16"))
    if coding == "int8" and array.ndim == 2 and array.size:
        values, scales = quantise_rows(array)
        return Activation("int8", array.shape, _bytes_of(values, "int8"), _bytes_of(scales, "f32"))
    return Activation("f32", array.shape, _bytes_of(array, "f32"))


def _bytes_of(array: npt.NDArray[Any], coding: str) -> memoryview:
    flat = np.ascontiguousarray(array, dtype=TYPES[coding]).reshape(-1)
    return flat.view(np.uint8).data


def unpack_activation(frame: Activation) -> npt.NDArray[Any]:
    """Decode and check a frame from a peer, which may be wrong or hostile.

    Returns:
        float32 or int64 in the machine's byte order. A view into the message, read-only, where nothing had to be
        converted: whoever keeps it keeps the message.

    Raises:
        ValueError: unknown coding, impossible size, lengths that do not match, or values that are not finite.
    """
    if frame.coding not in TYPES:
        raise ValueError(f"activation: coding {frame.coding!r} is unknown, expected one of {', '.join(TYPES)}")
    shape, dtype = frame.shape, TYPES[frame.coding]
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise ValueError(f"activation: shape {shape} is not allowed, expected [n] or [n, width]")
    expected_bytes = math.prod(shape) * dtype.itemsize
    if expected_bytes > PAYLOAD_MAX_BYTES:
        raise ValueError(f"activation: shape {shape} claims {expected_bytes} bytes, at most {PAYLOAD_MAX_BYTES}")
    rows = shape[0] * 4 if frame.coding == "int8" else 0
    for name, part, needed in (("values", frame.values, expected_bytes), ("scales", frame.scales, rows)):
        if part.nbytes != needed:
            raise ValueError(f"activation: {part.nbytes} bytes of {name}, shape {shape} needs {needed}")
    array = np.frombuffer(frame.values, dtype=dtype).reshape(shape)
    if frame.coding == "i64":
        return array.astype(np.int64, copy=False)
    wide = array.astype(np.float32, copy=False)
    if frame.coding == "int8":
        with np.errstate(over="ignore", invalid="ignore"):  # a hostile scale: told below
            scales = np.frombuffer(frame.scales, dtype=TYPES["f32"]).astype(np.float32, copy=False)
            wide = wide * scales.reshape(-1, *(1,) * (len(shape) - 1))
    if not np.isfinite(wide).all():
        raise ValueError("activation: holds values that are not finite")
    return wide


def coding_error(array: npt.NDArray[np.float32], coding: str) -> float:
    """The error of sending an array in a coding: root mean square of the difference over that of the array."""
    difference = unpack_activation(pack_activation(array, coding)).astype(np.float64) - array
    return float(np.sqrt(np.mean(np.square(difference)) / np.mean(np.square(array, dtype=np.float64))))
