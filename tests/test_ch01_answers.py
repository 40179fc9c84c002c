"""Numbers that chapter 1 states without a cell that computes them: folded answers and the drawing of GPT-2."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ch01_understanding_llms.fast_counts import FastNgramModel
from ch01_understanding_llms.understanding_llms import bits_per_byte, count_followers, gpt_parameter_count, split_words
from data.loaders import load_instructions, load_stories
from shared import generate, load_story_gpt
from tests.sizes import LONG_RUN

CHAPTER = Path(__file__).resolve().parent.parent / "ch01_understanding_llms"
VOCABULARY = 2341  # words of all training and held-out stories, shown in section 1.1


def source(name: str) -> str:
    cells = json.loads((CHAPTER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def answer(name: str, question: str) -> str:
    """Return the folded answer below the first *Try it* that holds these words."""
    trial = source(name)[source(name).index(question) :]
    return re.search(r"<details><summary>Answer</summary>(.+?)</details>", trial, re.DOTALL).group(1)


@pytest.mark.parametrize("name", ["understanding_llms", "large_models"])
def test_every_thing_to_try_has_a_folded_answer(name):
    cells = json.loads((CHAPTER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    tries = [text for cell in cells if "**Try it" in (text := "".join(cell["source"]))]
    assert tries and all("<details><summary>Answer</summary>" in text.split("**Try it", 1)[1] for text in tries)


def test_the_drawing_of_gpt2_adds_up():
    V, T, D = 50_257, 1024, 768
    attention, feed_forward, norm = 4 * D * D + 4 * D, 8 * D * D + 5 * D, 2 * D
    block = attention + feed_forward + 2 * norm
    total = gpt_parameter_count(vocab_size=V, context_length=T, d_model=D, n_layers=12)
    drawing = (CHAPTER / "gpt2_parameters.svg").read_text(encoding="utf-8")
    column = re.findall(r"text-anchor='end'>([\d,]+)</text>", drawing)
    parts = [V * D, T * D, norm, attention, norm, feed_forward, block, 12 * block, norm, 0, total]
    assert [int(number.replace(",", "")) for number in column] == parts
    assert parts[0] + parts[1] + parts[7] + parts[8] == total
    assert f"{total:,}" in drawing.split("</desc>")[0] and f"{total:,}" in source("large_models")


def test_the_share_of_the_tables_of_gpt2_and_gpt3():
    said = answer("large_models", "Which share of GPT-2")
    for context_length, d_model, n_layers in ((1024, 768, 12), (2048, 12_288, 96)):
        tables = (50_257 + context_length) * d_model
        whole = gpt_parameter_count(
            vocab_size=50_257, context_length=context_length, d_model=d_model, n_layers=n_layers
        )
        assert f"{tables:,}" in said and f"{100 * tables / whole:.1f}%" in said


def test_the_toy_sentence_with_order_four():
    counts = count_followers("the fox saw the hen and the fox ran".split(), 4)
    longest = [followers.total() for context, followers in counts.items() if len(context) == 3]
    assert longest == [1] * 6 and "six contexts of three words" in answer("understanding_llms", "with order 4")


def test_temperature_seed_and_a_prompt_from_outside():
    model, tokenizer = load_story_gpt()
    end = tokenizer.special_tokens["<|endoftext|>"]

    def write(prompt, seed, temperature):
        ids = torch.tensor([[end, *tokenizer.encode(prompt)]])
        out = generate(model, ids, 280, temperature=temperature, stop_id=end, seed=seed)
        return tokenizer.decode(out[0, ids.shape[1] :].tolist()).replace("<|endoftext|>", "")

    opening = "Once upon a time, there was a little"
    assert write(opening, 4, 0) == write(opening, 5, 0)  # "At temperature 0 no seed matters"
    known = {word.strip() for story in load_stories("train", 3000) for word in split_words(story.text)}
    new = {t: np.mean([w.strip() not in known for w in split_words(write(opening, 4, t))]) for t in (0.7, 1.5, 2.5)}
    assert new[0.7] < 0.01 < new[1.5] < new[2.5]  # "words that do not exist appear"
    assert "rocket" not in write("The rocket landed on", 4, 0.7)


def test_less_text_needs_more_smoothing():
    held_out = load_stories("validation", 500)
    n_bytes = sum(len(story.text.encode("utf-8")) for story in held_out)
    seen = [[*split_words(story.text), "<|endoftext|>"] for story in load_stories("train", 200)]
    asked = [word for story in held_out for word in (*split_words(story.text), "<|endoftext|>")]
    id_of = {word: i for i, word in enumerate(dict.fromkeys([*sum(seen, []), *asked]))}
    new = [id_of[word] for word in asked]

    def bits(n_stories, smoothing):
        ids = [id_of[word] for story in seen[:n_stories] for word in story]
        loss = FastNgramModel(3, VOCABULARY, smoothing).fit(ids).loss(new)
        return bits_per_byte(loss, len(new), n_bytes)

    amounts = (0.1, 0.5, 1, 4, 16, 64, 256)
    many, few = ({s: bits(n_stories, s) for s in amounts} for n_stories in (200, 20))
    assert sorted(many, key=many.get)[:2] == [4, 16] and min(few, key=few.get) == 64
    said = answer("understanding_llms", "Which smoothing would win")
    for number in (many[4], many[16], few[64], few[4]):
        assert f"{number:.2f}" in said


@pytest.mark.skipif(not LONG_RUN, reason="counts twenty thousand stories a dozen times: COURSE_LONG=1")
def test_when_pretraining_a_counting_model_no_longer_pays():
    stories = [split_words(story.text) for story in load_stories("train")]
    said = answer("understanding_llms", "Give the model 50 or 300 questions")

    def losses(n_questions, order):
        train, test = load_instructions("train")[:n_questions], load_instructions("test")[:300]
        few, unseen = ([split_words(f"{r.prompt} {r.response}") for r in records] for records in (train, test))
        id_of = {word: i for i, word in enumerate(sorted({w for text in [*stories, *few, *unseen] for w in text}))}
        general, special, asked = (np.array([id_of[w] for t in ts for w in t]) for ts in (stories, few, unseen))
        both = np.concatenate([general, np.tile(special, 100)])
        return [FastNgramModel(order, len(id_of)).fit(ids).loss(asked) for ids in (both, special)]

    for n_questions, order in ((50, 2), (300, 2), (20, 3)):
        for loss in losses(n_questions, order):
            assert f"{loss:.2f}" in said
    for n_questions in (20, 50, 300):
        pretrained, alone = losses(n_questions, 3)
        assert pretrained > alone  # "the trigram gains at no size"
