"""Claims about text that is shown while it is written: whole characters at once, and nothing is left out at the end."""

import pytest
import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.streaming import stream_text
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model import generation
from ch06_finetuning.assistant import Assistant
from shared.commands import sample
from tests.sizes import n
from tests.small_models import tiny_model

TEXT = "fée fève 日本語 🙂 café 👩‍👩‍👧 naïve Ж ü " * 20


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT, 300, SPECIAL_TOKENS)


def random_ids(case: int, most: int) -> list[int]:
    generator = torch.Generator().manual_seed(case)
    length = int(torch.randint(0, 12, (), generator=generator))
    return torch.randint(most, (length,), generator=generator).tolist()


@pytest.mark.parametrize("case", range(n(200, 2_000)))
def test_the_pieces_join_to_the_text_and_none_but_the_last_ends_in_half_a_character(tokenizer, case):
    """Random tokens, most of which are single bytes: text that no model should write, but may."""
    ids = random_ids(case, tokenizer.vocab_size)
    pieces = list(stream_text(ids, tokenizer.decode))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert all(piece and not piece.endswith("\ufffd") for piece in pieces[:-1]) and "" not in pieces


@pytest.mark.parametrize("text", ["é", "日", "🙂", "👩‍👩‍👧", "aé", "é日🙂a"])
def test_a_character_of_several_bytes_appears_at_once(text):
    pieces = list(stream_text(text.encode("utf-8"), lambda ids: bytes(ids).decode("utf-8", "replace")))
    assert pieces == list(text)


@pytest.fixture
def writes(tokenizer, monkeypatch):
    """Let models write what a test says, whatever their weights are: `writes(ids)`, each time they are asked."""

    def say(ids):
        def sampler(*_):
            waiting = iter([*ids, tokenizer.special_tokens["<|endoftext|>"]])
            return lambda logits: torch.tensor([next(waiting)])

        monkeypatch.setattr(generation, "Sampler", sampler)

    return say


@pytest.mark.parametrize("end", range(1, 4))
def test_half_a_character_at_the_end_is_shown_by_sample_and_by_the_assistant(tokenizer, writes, end):
    writes([*tokenizer.encode("ca"), *"🙂".encode()[:end]])
    model = tiny_model(vocab_size=tokenizer.vocab_size)
    assert "".join(sample.pieces(model, tokenizer, "", 9)) == "ca\ufffd"
    assistant = Assistant(model, tokenizer)
    assert "".join(assistant.stream("hi")) == "ca\ufffd"
    assert "".join(text for text, _ in assistant.stream_likely("hi")) == "ca\ufffd"


def test_a_story_ends_at_its_end_token_and_nothing_of_it_is_shown(tokenizer, writes):
    writes([*tokenizer.encode("café"), tokenizer.special_tokens["<|endoftext|>"], 65])
    assert "".join(sample.pieces(tiny_model(vocab_size=tokenizer.vocab_size), tokenizer, "", 9)) == "café"


def test_pieces_come_as_soon_as_they_are_whole():
    """The text is shown while it is written, not when it is finished."""
    asked = []

    def tokens():
        for byte in "aé".encode():
            asked.append(byte)
            yield byte

    pieces = stream_text(tokens(), lambda ids: bytes(ids).decode("utf-8", "replace"))
    assert next(pieces) == "a" and asked == [97]
    assert next(pieces) == "é" and len(asked) == 3


def test_a_text_whose_decoder_strips_it_loses_no_space_within():
    pieces = list(stream_text(b" a b  ", lambda ids: bytes(ids).decode().strip()))
    assert pieces == ["a", " b"]
