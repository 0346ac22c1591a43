"""A member's log in memory: the entries after the last snapshot, by index. What is durable is not known here."""

from __future__ import annotations

Entry = tuple[int, bytes]
"""Term and command."""


class Log:
    """Entries ``start + 1`` to ``last``; what came before is in a snapshot.

    Attributes:
        start: index of the last entry that the snapshot holds, 0 if there is none.
        start_term: its term.
        last: index of the last entry, ``start`` if there is none after it.
        entries: the entries after ``start``, (term, command).
    """

    def __init__(self) -> None:
        self.start = self.start_term = self.last = 0
        self.entries: list[Entry] = []

    def entry(self, index: int) -> Entry:
        """Return the entry at an index after ``start``."""
        assert self.start < index <= self.last, f"entry {index} of {self.start + 1} to {self.last}"
        return self.entries[index - self.start - 1]

    def term_at(self, index: int) -> int:
        """Return the term of the entry at ``index``; 0 where it is not known, as at index 0."""
        if self.start < index <= self.last:
            return self.entries[index - self.start - 1][0]
        return self.start_term if index == self.start else 0

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self.entries[-1][0] if self.entries else self.start_term

    def slice(self, first: int, count: int, size_bytes: int) -> tuple[Entry, ...]:
        """Return up to ``count`` entries from ``first`` on, their commands at most ``size_bytes`` unless it is one."""
        at = first - self.start - 1
        assert at >= 0, f"entries from {first}, the log begins after {self.start}"
        found = self.entries[at : at + count]
        room = size_bytes
        for number, (_, command) in enumerate(found):
            room -= len(command)
            if room < 0:
                return tuple(found[: max(1, number)])
        return tuple(found)

    def bytes_after(self, index: int, last: int) -> int:
        """Return how long the commands after ``index`` up to ``last`` are together."""
        return sum(len(command) for _, command in self.entries[index - self.start : last - self.start])

    def append(self, term: int, command: bytes) -> int:
        """Add an entry; return its index."""
        self.entries.append((term, command))
        self.last += 1
        return self.last

    def extend(self, entries: tuple[Entry, ...]) -> None:
        """Add entries."""
        self.entries.extend(entries)
        self.last += len(entries)

    def truncate(self, last: int) -> None:
        """Forget every entry after ``last``."""
        assert self.start <= last <= self.last, f"cut after {last} of {self.start} to {self.last}"
        del self.entries[last - self.start :]
        self.last = last

    def compact(self, index: int) -> None:
        """Forget every entry up to ``index``, which a snapshot holds."""
        assert self.start <= index <= self.last, f"compact to {index} of {self.start} to {self.last}"
        self.start_term = self.term_at(index)
        del self.entries[: index - self.start]
        self.start = index

    def reset(self, index: int, term: int) -> None:
        """Begin anew after a snapshot that ends with entry ``index`` of ``term``."""
        self.start = self.last = index
        self.start_term = term
        self.entries = []
