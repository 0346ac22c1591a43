"""When each entry of the replicated log was first and last committed: what a timeline of agreement is drawn from."""

from __future__ import annotations


class Commits:
    """Collects announcements of commits; a member that tells an entry again after a restart is counted once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float, float, set[str]]] = {}  # index to (term, first_s, last_s, members)

    def take(self, time_s: float, node: str, index: int, term: int) -> None:
        """Note that ``node`` told at ``time_s`` that entry ``index`` of ``term`` is committed."""
        first = self._seen.get(index)
        if first is None:
            self._seen[index] = (term, time_s, time_s, {node})
        elif node not in first[3]:
            first[3].add(node)
            self._seen[index] = (first[0], first[1], time_s, first[3])

    def rows(self) -> list[tuple[int, int, float, float, int]]:
        """Return the rows of the table ``commits`` (`scenarios.record.TABLES`), by index."""
        return [(index, *self._seen[index][:3], len(self._seen[index][3])) for index in sorted(self._seen)]
