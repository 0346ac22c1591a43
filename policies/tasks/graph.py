"""Dependencies as a graph: whether one more task would close a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def circle(task: str, dependencies: Iterable[str], known: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the circle that ``task`` would close, from it back to it, or () if it closes none.

    Args:
        task: the new task.
        dependencies: what it waits for; may name tasks that nobody knows yet.
        known: task to what it waits for; free of circles.

    >>> circle("c", ["a"], {"a": ["b"], "b": ["c"]})
    ('c', 'a', 'b', 'c')
    >>> circle("c", ["a"], {"a": ["b"], "b": ["d"]})
    ()
    """
    came_from: dict[str, str] = {}
    stack = []
    for first in dependencies:
        if first not in came_from:
            came_from[first] = task
            stack.append(first)
    while stack:
        at = stack.pop()
        if at == task:
            path = [task]
            while (before := came_from[path[-1]]) != task:
                path.append(before)
            return task, *reversed(path)
        for following in known.get(at, ()):
            if following not in came_from:
                came_from[following] = at
                stack.append(following)
    return ()
