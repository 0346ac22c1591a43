"""Tasks with dependencies, on agents that come and go.

`graph` finds circles, `book` keeps the tasks and `roster` the agents, `coordinator` and `agent` are the two sides,
`commit` writes what the coordinator decides, and `messages` is what they say.
"""

from policies.tasks.agent import TaskAgent
from policies.tasks.book import Book, Task
from policies.tasks.coordinator import Coordinator
from policies.tasks.graph import circle
from policies.tasks.roster import Agent

__all__ = ["Agent", "Book", "Coordinator", "Task", "TaskAgent", "circle"]
