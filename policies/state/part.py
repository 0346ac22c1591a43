"""What every part of the village's state is: something with one canonical form, from which it can be made again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from hashlib import blake2b
from typing import Any, ClassVar

from policies.wire import encode


class Part(ABC):
    """One part of the state. Its form depends on the commands applied and their order, and on nothing else.

    Attributes:
        name: what it is called in an error.
        form: the type of `saved`, by which a snapshot is read strictly.
    """

    name: ClassVar[str]
    form: ClassVar[Any]

    @abstractmethod
    def saved(self) -> Any:
        """Return the whole part as tuples of plain values, in the order in which commands brought them."""

    @abstractmethod
    def load(self, saved: Any) -> None:
        """Become what `saved` returned.

        Raises:
            ValueError: a law of this part does not hold.
        """

    def digest(self) -> bytes:
        """Return 20 bytes that are equal for equal parts."""
        return blake2b(encode(self.saved()), digest_size=20).digest()
