"""Transcripts: tests as text files that read as a story. Each block is one directive and what must come of it.

    # Comments begin a file, which must say what it is about, and may stand before any block.

    committed incoming=a,b acked=a:12,b:5
    ----
    5

A directive is a word, then words and ``option=value`` pairs. After ``----`` stands the expected result, up to the next
blank line; no line means that nothing is to be said. A directive is a function whose parameters are its options, so an
unknown word, an unknown or missing option or a broken block is refused with its line.

``REWRITE_TRANSCRIPTS=1 pytest ...`` writes what came out in place of what was expected, and fails all the same: read
the difference, and keep it only if you can say why each line is right.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).with_suffix("")
REWRITE = "REWRITE_TRANSCRIPTS"
SEPARATOR = "----"

Directives = Mapping[str, Callable[..., str]]


class TranscriptError(AssertionError):
    """A transcript is malformed, stale, or tells what does not come about; the first words are file and line."""


@dataclass(frozen=True)
class Block:
    """One directive: the line on which it stands, what was written before it, and what is expected of it."""

    line: int
    comment: tuple[str, ...]
    directive: str
    expected: tuple[str, ...]


def play(path: Path, directives: Directives) -> None:
    """Carry out a transcript from its first block to its last; what directives share is the caller's state.

    Raises:
        TranscriptError: see there. Nothing is carried out after the first block that differs, unless all is rewritten.
    """
    rewrite = os.environ.get(REWRITE, "") == "1"
    told: list[Block] = []
    for block in read(path):
        result = tuple(line.rstrip() for line in _carry_out(path, block, directives).splitlines() if line.strip())
        told.append(replace(block, expected=result))
        if result != block.expected and not rewrite:
            expected, got = ("".join(f"\n    {line}" for line in lines) for lines in (block.expected, result))
            raise TranscriptError(f"{path.name}:{block.line}: {block.directive}\n  expected:{expected}\n  got:{got}")
    if rewrite:
        path.write_text(text(tuple(told)))
        raise TranscriptError(f"{path.name}:1: rewritten; read the difference, then run without {REWRITE}")


def read(path: Path) -> tuple[Block, ...]:
    """Return the blocks of a file.

    Raises:
        TranscriptError: it has no story or no block, or a block lacks its directive or separator.
    """
    blocks: list[Block] = []
    paragraph: list[str] = []
    lines = path.read_text().splitlines()
    for number, line in enumerate((*lines, ""), start=1):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            blocks.append(_block(path, number - len(paragraph), paragraph))
            paragraph = []
    if not blocks or not blocks[0].comment:
        raise TranscriptError(f"{path.name}:1: a transcript begins with a comment that tells its story, then blocks")
    for block in blocks[1:]:
        if not block.directive:
            raise TranscriptError(f"{path.name}:{block.line}: a comment without a block after it")
    return tuple(blocks)


def text(blocks: tuple[Block, ...]) -> str:
    """Return the file that holds these blocks; `read` reads it back."""
    paragraphs = []
    for block in blocks:
        body = (block.directive, SEPARATOR, *block.expected) if block.directive else ()
        paragraphs.append("\n".join((*block.comment, *body)))
    return "\n\n".join(paragraphs) + "\n"


def _block(path: Path, first: int, paragraph: list[str]) -> Block:
    comment = []
    while paragraph and paragraph[0].startswith("#"):
        comment.append(paragraph.pop(0))
    line = first + len(comment)
    if not paragraph:
        return Block(line, tuple(comment), "", ())
    if len(paragraph) < 2 or paragraph[1] != SEPARATOR or SEPARATOR in paragraph[2:]:
        raise TranscriptError(f"{path.name}:{line}: {paragraph[0]!r} must be followed by one line {SEPARATOR!r}")
    return Block(line, tuple(comment), paragraph[0], tuple(paragraph[2:]))


def _carry_out(path: Path, block: Block, directives: Directives) -> str:
    if not block.directive:  # the story
        return ""
    word, *given = block.directive.split()
    if word not in directives:
        known = ", ".join(sorted(directives))
        raise TranscriptError(f"{path.name}:{block.line}: no directive {word!r}; there are {known}")
    words = [one for one in given if "=" not in one]
    options = dict(one.split("=", 1) for one in given if "=" in one)
    try:
        bound = inspect.signature(directives[word]).bind(*words, **options)
    except TypeError as error:
        raise TranscriptError(f"{path.name}:{block.line}: {word}: {error}") from None
    try:
        return directives[word](*bound.args, **bound.kwargs)
    except Exception as error:
        error.add_note(f"{path.name}:{block.line}: {block.directive}")
        raise
