"""A checkpoint's own tokenizer and chat template: tokenizer.json by the library `tokenizers`, the template by Jinja.

Files and fields are Transformers', as they lie beside a checkpoint: ``tokenizer.json``; ``bos_token``, ``eos_token``
and ``chat_template`` in ``tokenizer_config.json`` (or a file ``chat_template.jinja``); ``eos_token_id`` in
``generation_config.json`` or ``config.json``. A template comes with the files and is run in Jinja's sandbox.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from policies.jobs import ENDS_MAX
from real_backends.gateway.errors import ApiError
from real_backends.gateway.tokenizer import ByteTokenizer, Pieces, Tokenizer
from scenarios.extras import why_lacking
from scenarios.schema import ScenarioError

NAME = "tokenizer.json"
NEEDED = ("tokenizers", "jinja2")
UNSETTLED = "\ufffd"
"""What an incomplete character looks like at the end of a text."""


def tokenizer_of(folder: Path | None, vocab: int) -> Tokenizer:
    """Return a checkpoint's own tokenizer, or that of bytes where it has none.

    Args:
        folder: the checkpoint; None is a seeded model.
        vocab: the model's number of token ids.

    Raises:
        ScenarioError: one line: it cannot be read, does not fit the model, or a library cannot be imported.
    """
    if folder is None or not (folder / NAME).exists():
        if vocab < ByteTokenizer.vocab_min:
            raise ScenarioError(
                f"vocab_size={vocab}: without a {NAME} tokens are bytes, and need {ByteTokenizer.vocab_min}"
            )
        return ByteTokenizer()
    if absent := why_lacking(NEEDED):
        raise ScenarioError(f"checkpoint {folder.name}: has a {NAME}, which needs {absent}")
    try:
        return OwnTokenizer(folder, vocab)
    except ScenarioError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise ScenarioError(f"checkpoint {folder.name}: {NAME}: {str(error).splitlines()[0]}") from None


class OwnTokenizer:
    """See `tokenizer_of`."""

    def __init__(self, folder: Path, vocab: int) -> None:
        self._tokens = importlib.import_module("tokenizers").Tokenizer.from_file(str(folder / NAME))
        largest = max(self._tokens.get_vocab(with_added_tokens=True).values(), default=-1)
        if not 0 <= largest < vocab:
            raise ScenarioError(f"checkpoint {folder.name}: {NAME} has ids up to {largest}, the model {vocab} of them")
        config = _json(folder / "tokenizer_config.json")
        self._words = {name: _word(config.get(name)) for name in ("bos_token", "eos_token")}
        self.ends = self._ends(folder, vocab)
        self._template = _template(folder, config)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`; what the checkpoint puts before a text is put there."""
        return list(self._tokens.encode(text).ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """See `Tokenizer.chat`."""
        if self._template is None:
            lines = "".join(f"{m.get('name') or m['role']}: {m['content']}\n" for m in messages)
            return self.encode(f"{lines}assistant: ")
        try:
            text = self._template.render(
                messages=[dict(message) for message in messages], add_generation_prompt=True, **self._words
            )
        except Exception as error:  # whatever a template does is an answer to these messages
            raise ApiError(
                f"The model's chat template takes no such messages: {error}", param="messages", code="invalid_value"
            ) from None
        return list(self._tokens.encode(text, add_special_tokens=False).ids)  # the template has put them

    def pieces(self) -> Pieces:
        """See `Tokenizer.pieces`."""
        return OwnPieces(self._tokens)

    def _ends(self, folder: Path, vocab: int) -> tuple[int, ...]:
        for name in ("generation_config.json", "config.json"):
            found = _json(folder / name).get("eos_token_id")
            if found is not None:
                ids = found if isinstance(found, list) else [found]
                if len(ids) > ENDS_MAX or not all(type(one) is int and 0 <= one < vocab for one in ids):
                    raise ScenarioError(f"checkpoint {folder.name}: {name}: eos_token_id={found!r} is not allowed")
                return tuple(ids)
        word = self._words["eos_token"]
        token = self._tokens.token_to_id(word) if word else None
        return () if token is None else (token,)


class OwnPieces:
    """Text of one answer: a few tokens are decoded together, as what a token reads like depends on the one before.

    Text that ends in U+FFFD may be the begin of a character, and waits; the window of tokens moves on where none does.
    """

    def __init__(self, tokens: Any) -> None:
        self._tokens = tokens
        self._window: list[int] = []  # the last settled tokens, and those since
        self._settled = 0  # tokens of the window
        self._given = 0  # characters of the window's text

    def add(self, token: int) -> str:
        """See `Pieces.add`."""
        self._window.append(token)
        text = self._text()
        settled = text.rstrip(UNSETTLED)
        new = settled[self._given :]
        self._given = max(self._given, len(settled))
        if new and settled == text:
            self._window = self._window[self._settled :]
            self._settled, self._given = len(self._window), len(self._text())
        return new

    def end(self) -> str:
        """See `Pieces.end`."""
        return self._text()[self._given :]

    def _text(self) -> str:
        return str(self._tokens.decode(self._window, skip_special_tokens=True))


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScenarioError(f"checkpoint {path.parent.name}: {path.name} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ScenarioError(f"checkpoint {path.parent.name}: {path.name} is not a JSON object")
    return found


def _word(value: Any) -> str:
    """Return a special token: its text, or an object that has it; "" where there is none."""
    return str(value["content"] if isinstance(value, dict) else value or "")


def _template(folder: Path, config: Mapping[str, Any]) -> Any:
    """Return the chat template, compiled, or None; of several the default one."""
    file, text = folder / "chat_template.jinja", config.get("chat_template")
    if file.exists():
        text = file.read_text(encoding="utf-8")
    elif isinstance(text, list):
        text = {one["name"]: one["template"] for one in text}.get("default")
    if text is None:
        return None
    sandbox = importlib.import_module("jinja2.sandbox").ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    sandbox.globals["raise_exception"] = _refuse
    try:
        return sandbox.from_string(text)
    except Exception as error:  # a template that is none
        raise ScenarioError(f"checkpoint {folder.name}: its chat template: {error}") from None


def _refuse(text: str) -> NoReturn:
    """What templates call to refuse messages."""
    raise ValueError(text)
