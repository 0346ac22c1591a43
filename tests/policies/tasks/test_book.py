"""The book of tasks under any history: sums add up, who is ready is who may be, and the disk holds all of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.tasks import Book
from policies.tasks.book import ASSIGNED, DONE, FAILED, FORGOTTEN, WAITING
from tests.policies.tasks.desk import submit

NAMES = [f"t{k}" for k in range(8)]
verbs = st.sampled_from(["accept", "assign", "back", "done", "failed"])
acts = st.lists(
    st.tuples(verbs, st.sampled_from(NAMES), st.integers(0, 4), st.sets(st.sampled_from(NAMES), max_size=2)),
    max_size=40,
)  # fmt: skip


def act(book: Book, verb: str, name: str, priority: int, after: set[str], now_ns: int) -> None:
    """Do what may be done; skip what may not."""
    task = book.tasks.get(name)
    if verb == "accept":
        asked = submit(name, priority, after=tuple(sorted(after)))
        failed = any(other in book.tasks and book.tasks[other].state == FAILED for other in after)
        if task is None and not failed and not book.circle(asked):
            book.accept(asked, now_ns)
    elif verb == "assign":
        if task in book.ready():
            book.assign(task, "n1", now_ns)
    elif task is not None and task.open:
        if verb == "back" and task.state == ASSIGNED:
            book.take_back(task)
        elif verb == "done" and task.attempt:
            book.end(task, DONE, "")
        elif verb == "failed":
            ending = [task]
            while ending:
                one = ending.pop()
                if one.open:
                    ending += book.end(one, FAILED, "no luck")


@settings(deadline=None)
@given(acts)
def test_the_book_is_right_after_any_history(history: list[tuple[str, str, int, set[str]]]):
    """Counts are those of the tasks; ready are the waiting ones whose dependencies are done, the most urgent first."""
    book = Book(ageing_ns=10, ended_max=100)
    for now_ns, (verb, name, priority, after) in enumerate(history):
        act(book, verb, name, priority, after, now_ns)
        states = {name: task.state for name, task in book.tasks.items()}
        done, failed = (sum(state == end for state in states.values()) for end in (DONE, FAILED))
        assert book.counts() == (len(states), done, failed, len(states) - done - failed)
        may = [
            task
            for task in book.tasks.values()
            if task.state == WAITING and all(states.get(other) == DONE for other in task.submit.dependencies)
        ]
        assert book.ready() == sorted(may, key=lambda task: (task.at_ns + 10 * task.submit.priority, task.number))

    again = Book(ageing_ns=10, ended_max=100)
    again.restore({**{f"t/{n}": task.record() for n, task in book.tasks.items()}, FORGOTTEN: book.totals()}, 0)
    assert again.counts() == book.counts()
    assert {n: task.state for n, task in again.tasks.items()} == {n: task.state for n, task in book.tasks.items()}
    assert {task.name for task in again.ready()} == {task.name for task in book.ready()}
