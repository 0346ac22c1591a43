"""Where clients enter: identity, rate, admission, deadline, and one outcome per ``op_id``."""

from policies.gateway.gateway import (
    Accepted,
    Admitted,
    Answer,
    AnswerBy,
    Come,
    Gateway,
    Part,
    PartBy,
    Redirect,
    Refused,
    Submit,
    Withdraw,
)

__all__ = [
    "Accepted", "Admitted", "Answer", "AnswerBy", "Come", "Gateway", "Part", "PartBy", "Redirect", "Refused", "Submit",
    "Withdraw",
]  # fmt: skip
