"""Names as people write them: `Llama 2 7B`, `llama2-70b`, `A100-80gb`, `Apple M2 Ultra (76-core GPU)`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UnknownName(ValueError):
    """A name that a table does not hold; the message names the nearest that it does."""


def words(text: str) -> tuple[str, ...]:
    """Split a name into lower-case words and numbers: letters, numbers, and numbers with what is glued to them.

    ``Llama-3.1-8B`` is ``llama 3.1 8b``, ``M2 Ultra (76-core GPU)`` is ``m2 ultra 76 core gpu``.
    """
    return tuple(re.findall(r"[a-z]+|\d+(?:\.\d+)*[a-z]*", re.sub(r"[’'`]", "", text.lower())))


def key(text: str, noise: Iterable[str] = ()) -> str:
    """Return a name without its spelling: letters, digits and decimal points, words of no meaning left out."""
    dropped = frozenset(noise)
    return "".join(word for word in words(text) if word not in dropped)


def unknown(what: str, given: str, allowed: Iterable[str]) -> UnknownName:
    """Return the error for a name that is not among those allowed: the nearest, and all if they are few."""
    names = sorted(set(allowed))
    plain = {key(name): name for name in names}
    near = [plain[found] for found in difflib.get_close_matches(key(given), plain, n=3, cutoff=0.4)]
    hint = f"nearest: {', '.join(near)}; " if near else ""
    listed = ", ".join(names) if len(names) <= 40 else f"{len(names)} names, of which {', '.join(names[:6])} ..."
    return UnknownName(f"{what} is {given!r}; {hint}allowed: {listed}")
