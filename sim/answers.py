"""What sessions answer in the twin, where nothing is computed: names and tokens that follow from the question.

An answer is a name that follows from model, prompt and length, the same for every honest pipeline, and so is each of
its tokens. What a dishonest one says is different, and so is what begins with its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from policies.jobs import SessionJob


def answer_digest(model: str, prompt: str, new_tokens: int) -> str:
    """Return what an honest pipeline answers."""
    return _name(f"{model}\x00{prompt}\x00{new_tokens}")


def tokens(model: str, prompt: str, first: int, last: int) -> tuple[int, ...]:
    """Return tokens ``first`` (inclusive) to ``last`` (exclusive) of an honest answer, each below 2**31."""
    return tuple(int(_name(f"{model}\x00{prompt}\x00token {k}")[:8], 16) >> 1 for k in range(first, last))


def emitted(job: SessionJob, said: int, wrong: Sequence[str]) -> tuple[int, ...]:
    """Return the answer so far: what was forced, and ``said`` further tokens, not the true ones if a stage is wrong."""
    first = len(job.forced)
    true = tokens(job.model, job.prompt, first, first + said)
    return job.forced + (tuple(token ^ 1 for token in true) if wrong else true)


def output(job: SessionJob, wrong: Sequence[str]) -> str:
    """Return what a session answers; the true answer only if it began with true tokens and no stage is wrong."""
    answer = answer_digest(job.model, job.prompt, job.new_tokens)
    if job.forced != tokens(job.model, job.prompt, 0, len(job.forced)):
        answer = _name(f"{answer}{job.forced}")
    return _name(f"{answer}{wrong}") if wrong else answer


def _name(text: str) -> str:
    return blake2b(text.encode(), digest_size=20).hexdigest()
