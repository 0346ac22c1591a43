"""The number formats a shard may hold its weights in, and int8 rows. numpy only.

    fp32   weights, caches and arithmetic in float32, products at full precision (no TF32)
    bf16   all of them in bfloat16; norms, softmax and logits in float32
    fp16   the same in float16
    int8   matrices as int8 with one float32 scale a row; everything else as in fp32

In int8 the embedding stays float32: its rows are looked up, not multiplied.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DTYPES = ("fp32", "bf16", "fp16", "int8")


def check_dtype(dtype: str) -> None:
    """Refuse a format that no shard has."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} is not allowed, expected one of {', '.join(DTYPES)}")


def quantise_rows(matrix: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round each row of a matrix [rows, columns] to 255 levels, symmetric about 0.

    Both backends quantise with this function, so they hold the same integers. The rule is absolute-maximum
    quantisation (Dettmers et al. 2022, arXiv 2208.07339, section 2.1), a row at a time.

    Returns:
        int8 [rows, columns] and float32 scales [rows]; row r is about values[r] * scales[r], within half a scale.
    """
    scales = (np.abs(matrix).max(axis=1) / np.float32(127)).astype(np.float32)
    scales[scales == 0] = 1.0  # a row of zeros stays one
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales
