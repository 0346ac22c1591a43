"""A checkpoint's own tokenizer: its text piece by piece, its chat template, its ends, and what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.jobs import Sampling
from real_backends.gateway.errors import ApiError
from real_backends.gateway.own_tokenizer import OwnPieces, tokenizer_of
from real_backends.gateway.text import TextStream
from real_backends.gateway.wanted import Served, read
from scenarios.schema import ScenarioError

tokenizers = pytest.importorskip(
    "tokenizers", reason="tokenizers is not installed: pip install 'villagetwin[tokenizer]'"
)
pytest.importorskip("jinja2")

TEXTS = ["The village speaks.", "Grüße aus dem Dorf; привет; 你好 🙂", "one two three two one", "a  b   c\nd"] * 3
SPECIAL = ["<s>", "<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = """{{ bos_token }}{% for message in messages %}
    {%- if message['role'] == 'system' %}{{ raise_exception('no system messages') }}{% endif %}
    {{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""


def byte_level() -> Any:
    """Return a tokenizer as GPT-2's and Llama 3's: pieces of UTF-8 bytes."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def byte_fallback() -> Any:
    """Return a tokenizer as Llama 2's: words with a mark before them, and bytes for what is not known."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Sequence([
        tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse(),
        tokenizers.decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", *SPECIAL], show_progress=False)
    made.train_from_iterator(["The village speaks", "one two three"], trainer)
    plain = json.loads(made.to_str())
    vocab = plain["model"]["vocab"]
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    return tokenizers.Tokenizer.from_str(json.dumps(plain))


MADE = {"byte level": byte_level(), "byte fallback": byte_fallback()}


def saved(folder: Path, made: Any = MADE["byte level"], **config: Any) -> Path:
    """Write a tokenizer as it lies beside a checkpoint."""
    made.save(str(folder / "tokenizer.json"))
    plain = {"bos_token": "<s>", "eos_token": {"content": "<|end|>"}, "chat_template": TEMPLATE} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(plain))
    return folder


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@given(text=st.text(st.sampled_from("abe vlT\nüй你🙂"), max_size=30))
def test_pieces_are_the_librarys_text(made: Any, text: str) -> None:
    """Joined, the text of single tokens is what the library decodes at once, and no character comes in parts."""
    ids = made.encode(text).ids
    pieces = OwnPieces(made)
    given_out = [pieces.add(token) for token in ids]
    assert "".join(given_out) + pieces.end() == made.decode(ids)
    assert "\ufffd" not in "".join(given_out)


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_text_comes_as_tokens_come(made: Any) -> None:
    """A word is given out with its token; only a character that is not complete waits, to the end if it must."""
    ids = made.encode("The village speaks").ids
    pieces = OwnPieces(made)
    assert all(pieces.add(token) for token in ids)
    cut = made.encode("one🙂").ids[:-1]
    pieces = OwnPieces(made)
    assert "".join(pieces.add(token) for token in cut) == "one"
    assert set(pieces.end()) == {"\ufffd"}


def test_a_chat_is_the_checkpoints_template(tmp_path: Path) -> None:
    """Its special tokens are single ids, none is put there twice, and what it refuses is the client's error."""
    own = tokenizer_of(saved(tmp_path), 512)
    tokens = own.chat([{"role": "user", "content": "two"}, {"role": "assistant", "content": "one"}])
    made = MADE["byte level"]
    at = {word: made.token_to_id(word) for word in SPECIAL}
    assert tokens == [
        at["<s>"], at["<|user|>"], *made.encode("two").ids, at["<|end|>"],
        at["<|assistant|>"], *made.encode("one").ids, at["<|end|>"], at["<|assistant|>"],
    ]  # fmt: skip
    with pytest.raises(ApiError, match="no system messages") as raised:
        own.chat([{"role": "system", "content": "be brief"}])
    assert (raised.value.status, raised.value.param) == (400, "messages")


def test_a_template_reaches_nothing_of_this_program(tmp_path: Path) -> None:
    """It comes with the files and is not trusted: what leads out of its values is refused."""
    own = tokenizer_of(saved(tmp_path, chat_template="{{ messages.__class__.__mro__ }}"), 512)
    with pytest.raises(ApiError, match="unsafe"):
        own.chat([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, [1]),
        ({"config.json": {"eos_token_id": 3}}, [3]),
        ({"config.json": {"eos_token_id": 3}, "generation_config.json": {"eos_token_id": [2, 1]}}, [2, 1]),
    ],
)
def test_an_answer_ends_with_the_checkpoints_token(tmp_path: Path, files: dict[str, Any], ends: list[int]) -> None:
    """The request says which tokens end it; one of them has no text, and the reason is stop."""
    for name, plain in files.items():
        (tmp_path / name).write_text(json.dumps(plain))
    own = tokenizer_of(saved(tmp_path), 512)
    served = Served("m", 512, 100, 0, own)
    asked = {"model": "m", "prompt": "two", "max_tokens": 8}
    sampled = read(json.dumps(asked).encode(), served, chat=False, seed=9).sampling
    greedy = read(json.dumps(asked | {"temperature": 0}).encode(), served, chat=False, seed=9).sampling
    assert (sampled, greedy) == (Sampling(1.0, 1.0, 9, tuple(ends)), Sampling(0.0, 1.0, 0, tuple(ends)))
    text = TextStream((), own.pieces(), own.ends)
    word = own.encode("two")
    assert text.feed([*word, ends[0]]) + text.end() == "two"
    assert (text.ended, text.stopped, text.tokens) == (True, False, len(word) + 1)


def test_a_prompt_of_no_token_is_refused(tmp_path: Path) -> None:
    """A model must be given something to go on from."""
    served = Served("m", 512, 100, 0, tokenizer_of(saved(tmp_path), 512))
    with pytest.raises(ApiError, match="at least one token"):
        read(json.dumps({"model": "m", "prompt": ""}).encode(), served, chat=False, seed=1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"tokenizer.json": "{"}, "tokenizer.json: "),
        ({"tokenizer_config.json": "["}, "tokenizer_config.json is not JSON"),
        ({"tokenizer_config.json": '{"chat_template": "{% if %}"}'}, "its chat template: "),
        (
            {"generation_config.json": '{"eos_token_id": 700}'},
            "generation_config.json: eos_token_id=700 is not allowed",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_one_line(tmp_path: Path, spoil: dict[str, str], said: str) -> None:
    """It names the checkpoint, the file and what is wrong."""
    saved(tmp_path)
    for name, text in spoil.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ScenarioError) as raised:
        tokenizer_of(tmp_path, 512)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"checkpoint {tmp_path.name}: ")
    assert "\n" not in str(raised.value)


def test_a_tokenizer_of_more_ids_than_the_model_is_refused(tmp_path: Path) -> None:
    """Its tokens would be no rows of the embedding."""
    with pytest.raises(ScenarioError, match=r"has ids up to 3\d\d, the model 300 of them"):
        tokenizer_of(saved(tmp_path), 300)
