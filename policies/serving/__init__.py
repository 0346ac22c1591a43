"""The worker: what a lent device does for the village."""

from policies.serving.worker import Worker

__all__ = ["Worker"]
