"""Names of blocks by what is in them: equal names, equal tokens from the very first on.

A name is a digest of the name before it and of the block's own tokens, so that it stands for all that came before (the
hashes of vLLM's automatic prefix caching; a tree has the same end in Zheng et al., SGLang, NeurIPS 2024). The first one
follows from a scope, within which blocks may be shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from policies.serving.batching import BLOCK_TOKENS

NAME_BYTES = 16  # assumption: nobody finds two equal digests of 128 bits by chance
TOKEN_BYTES = 8  # of a token in what is digested


class Chain:
    """The names of one session's full blocks, as its tokens come.

    Args:
        scope: within which equal beginnings are to have equal names; a model's pipeline, at most.

    Attributes:
        names: so far; it grows in place.
    """

    def __init__(self, scope: str) -> None:
        self.names: list[bytes] = []
        self._last = blake2b(scope.encode(), digest_size=NAME_BYTES).digest()
        self._rest = b""

    def take(self, tokens: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Name the blocks that these further tokens fill."""
        self._rest += np.asarray(tokens, "<i8").tobytes()
        while len(self._rest) >= BLOCK_TOKENS * TOKEN_BYTES:
            block, self._rest = self._rest[: BLOCK_TOKENS * TOKEN_BYTES], self._rest[BLOCK_TOKENS * TOKEN_BYTES :]
            self._last = blake2b(self._last + block, digest_size=NAME_BYTES).digest()
            self.names.append(self._last)

    def before(self, position: int) -> tuple[bytes, ...]:
        """Return the names of the full blocks before a position."""
        return tuple(self.names[: position // BLOCK_TOKENS])

    def filled(self, position: int, tokens: int) -> tuple[bytes, ...]:
        """Return the names of the blocks that so many tokens fill, the first of them at a position."""
        return tuple(self.names[position // BLOCK_TOKENS : (position + tokens) // BLOCK_TOKENS])
