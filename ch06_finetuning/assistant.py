"""The assistant: a fine-tuned GPT that is asked, answers and is marked.

Its answers are marked exactly: the world that made the questions knows every right answer, so no judge is needed.

References: Ouyang et al. (2022), section 3.5.
"""

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ch02_text_data.any_tokenizer import Tokenizer, special_tokens_of
from ch02_text_data.streaming import stream_text
from ch04_gpt_model.generation import generate, stream
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import device_of
from ch05_pretraining.open_weights import FETCHED, is_pretrained, load_pretrained
from ch05_pretraining.saved_models import find_model, read_model
from ch06_finetuning.instructions import answer_ends, prompt_ids
from ch06_finetuning.lora import build_gpt
from ch06_finetuning.metrics import Rate
from data.durable_folders import CheckpointError, settled
from data.story_world.marking import Instruction, Question, mark

__all__ = ["Assistant", "MarkReport", "load_assistant", "mark_assistant"]


OTHERS = "a folder with config.json, or a .gguf file"
CUT = "cut off here: this is the longest answer it may give"
Turns = Iterable[tuple[str, str]]  # (prompt, answer) pairs, oldest first


class Sampling(TypedDict, total=False):
    """How an answer is drawn: options of `generate`, each of which may be left out."""

    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int | None


class Assistant:
    """A fine-tuned GPT with its tokenizer, ready to answer.

    Args:
        model: a fine-tuned GPTModel, or a published model that was trained to answer.
        tokenizer: the one it was trained with.
        max_new_tokens: longest answer in tokens, at least 1.

    Attributes:
        was_cut: whether the last answer came to its largest length before its end.

    Source: this course. Taught in ch06, section 6.11.
    """

    was_cut = False

    def __init__(self, model: GPTModel, tokenizer: Tokenizer, *, max_new_tokens: int = 200):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_new_tokens = max_new_tokens
        self.end_id, *others = answer_ends(tokenizer)
        self.stop_ids = {self.end_id, *others, *special_tokens_of(tokenizer).values()}

    def prompt_ids(self, prompt: str, history: Turns = ()) -> list[int]:
        """Build the ids of a prompt, leaving out the oldest turns that do not fit into the context.

        Raises:
            ValueError: the prompt alone is longer than the context allows.
        """
        return prompt_ids(self.tokenizer, prompt, self.turns_that_fit(prompt, history))

    def turns_that_fit(self, prompt: str, history: Turns) -> list[tuple[str, str]]:
        """Give the newest turns that fit into the context together with a prompt.

        Raises:
            ValueError: the prompt alone is longer than the context allows.
        """
        context = self.model.config.context_length
        room = context - min(self.max_new_tokens, context // 4)  # the rest is for the answer
        turns = list(history)
        while (n_tokens := len(prompt_ids(self.tokenizer, prompt, turns))) > room:
            if not turns:
                raise ValueError(f"the prompt takes {n_tokens} tokens, but at most {room} fit: shorten it")
            turns.pop(0)
        return turns

    def reply(self, prompt: str, history: Turns = (), **sampling: Unpack[Sampling]) -> str:
        """Answer a prompt; greedy and so always the same, unless `sampling` says otherwise.

        Args:
            prompt: what the user says.
            history: earlier (prompt, answer) pairs, oldest first.
            sampling: `temperature`, `top_k`, `top_p` and `seed` of `generate`.
        """
        return self._text(list(self._written(prompt, history, sampling)))

    def stream(self, prompt: str, history: Turns = (), **sampling: Unpack[Sampling]) -> Iterator[str]:
        """Answer a prompt piece by piece, as the tokens are written; the pieces join to what `reply` returns."""
        return stream_text(self._written(prompt, history, sampling), self._text)

    def stream_likely(
        self, prompt: str, history: Turns = (), *, n: int = 5, **sampling: Unpack[Sampling]
    ) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Answer piece by piece, each with the `n` likeliest tokens at its place and their probabilities."""
        tokens, seen = self._written(prompt, history, sampling), deque[Tensor](maxlen=1)

        def noted() -> Iterator[int]:
            while True:  # the hook is there for the moment of one token only, as whatever `stream` changes
                hook = self.model.head.register_forward_hook(lambda _head, _hidden, logits: seen.append(logits[0]))
                with hook:
                    token = next(tokens, None)
                if token is None:
                    return
                yield token

        for piece in stream_text(noted(), self._text):
            yield piece, self._likeliest(seen[0], n)

    def _written(self, prompt: str, history: Turns, sampling: Sampling) -> Iterator[int]:
        """The tokens of an answer, up to the first that ends it."""
        ids = self.tensor([self.prompt_ids(prompt, history)])  # (1, T)
        self.was_cut = False
        return self._until_end(stream(self.model, ids, self.max_new_tokens, **sampling))

    def _until_end(self, tokens: Iterator[int]) -> Iterator[int]:
        for token in tokens:
            if token in self.stop_ids:
                return
            yield token
        self.was_cut = True

    @torch.no_grad()
    def _likeliest(self, logits: Tensor, n: int) -> list[tuple[str, float]]:
        """The `n` likeliest tokens with their probabilities at temperature 1: logits (V,)."""
        probabilities = logits.float().softmax(dim=-1)  # (V,)
        return [(self.tokenizer.decode([id]), p) for p, id in zip(*(x.tolist() for x in probabilities.topk(n)))]

    def tensor(self, rows: list[list[int]]) -> Tensor:
        """Put rows of ids of one length where the model is: -> (B, T)."""
        return torch.tensor(rows, device=device_of(self.model))

    def chat(self, *, remember: bool = False) -> None:
        """Talk with the assistant in a notebook; an empty line or *quit* ends a text chat.

        Args:
            remember: let it read the earlier turns too, which misleads one that was trained on single questions.
        """
        try:
            import ipywidgets
            from IPython.display import display
        except ImportError:
            _text_chat(self, remember)
        else:
            display(_widget_chat(self, ipywidgets, remember))

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(list(takewhile(lambda token: token not in self.stop_ids, ids))).strip()


def load_assistant(source: str | Path = "shipped", dtype: str = "float32") -> Assistant:
    """Load an assistant: the shipped one, that of a run by its name, one from a folder, or a published model.

    Args:
        source: "shipped", the name of a run, a folder made by `save_model` or, with LoRA layers, `save_finetuned`, or
            what `load_pretrained` opens, for example "smollm2", by itself or in a run.
        dtype: precision in which a published model computes, see `load_pretrained`; the course's own know float32.

    Raises:
        ValueError: there is no such assistant, its files are damaged, it was not trained to answer, or it does not
            compute in this precision.

    Source: this course. Taught in ch06, section 6.11.
    """
    place = source if is_pretrained(source) else _folder_of(source)
    if not is_pretrained(place):
        return Assistant(*_read_ours(Path(place), dtype))
    model, tokenizer = load_pretrained(place, dtype)
    if not tokenizer.has_chat_template:
        raise ValueError(
            f"{source} holds no chat template, so it was not trained to answer: let it go on with a text, "
            f'python course.py sample "The sea is" --model {source}'
        )
    return Assistant(model, tokenizer, max_new_tokens=512)


def _folder_of(source: str | Path) -> Path:
    """The folder of an assistant that a run has made; a published model that has learned stands there as published."""
    try:
        folder = settled(find_model(source, "assistant"))
        if not os.listdir(folder):
            raise CheckpointError(f"{folder} has no manifest.json, nor any other file: choose another folder")
    except CheckpointError as error:
        raise CheckpointError(f"{error}; a published model is {' or '.join(FETCHED)}, {OTHERS}") from error
    return folder


def _read_ours(folder: Path, dtype: str) -> tuple[GPTModel, Tokenizer]:
    """Read the model and the tokenizer of an assistant that the course has made."""
    if dtype != "float32":
        raise ValueError(f"{folder} computes in float32, not in {dtype}, which is for published models: leave it out")
    return read_model(folder, lambda about, _: build_gpt(about))


@dataclass(frozen=True)
class MarkReport:
    """Exact marks of an assistant: every answer, the share that is right, over all and by kind.

    Source: this course. Taught in ch06, section 6.11.
    """

    records: list[Instruction | Question]
    answers: list[str]
    right: list[bool]

    @property
    def overall(self) -> Rate:
        return Rate(sum(self.right), len(self.right))

    @property
    def kinds(self) -> dict[str, Rate]:
        marks = defaultdict(list)
        for record, right in zip(self.records, self.right):
            marks[record.kind].append(right)
        return {kind: Rate(sum(marks[kind]), len(marks[kind])) for kind in sorted(marks)}

    @property
    def failures(self) -> list[tuple[Instruction | Question, str]]:
        return [(record, answer) for record, answer, right in zip(self.records, self.answers, self.right) if not right]

    def __str__(self) -> str:
        rows = {**self.kinds, "all": self.overall}
        width = max(map(len, rows))
        return "\n".join(f"{kind:{width}}  {rate}" for kind, rate in rows.items())


def mark_assistant(
    assistant: Assistant, records: Iterable[Instruction | Question], *, batch_size: int = 64, max_new_tokens: int = 40
) -> MarkReport:
    """Ask every record's prompt, greedily, and mark the answers exactly.

    Prompts of the same length are answered together, so a thousand records take seconds.

    Args:
        assistant: the assistant to examine.
        records: instructions or questions, see `load_instructions` and `load_questions_by_hand`.
        batch_size: prompts answered together, at least 1.
        max_new_tokens: where an answer is cut off, at least 1.

    Raises:
        ValueError: a number is below 1, or a prompt is empty or too long; names the record.

    Source: this course. Taught in ch06, section 6.11.
    """
    records = list(records)
    if batch_size < 1 or max_new_tokens < 1:
        raise ValueError(f"batch_size={batch_size}, max_new_tokens={max_new_tokens}: expected both to be at least 1")
    rows = [_prompt_of(assistant, record, number) for number, record in enumerate(records)]
    answers = [""] * len(records)
    for batch in _same_length_batches(rows, batch_size):
        ids = assistant.tensor([rows[index] for index in batch])  # (B, T), one length
        written = generate(assistant.model, ids, max_new_tokens, stop_id=assistant.end_id)
        for index, new in zip(batch, written[:, ids.shape[1] :].tolist()):
            answers[index] = assistant._text(new)
    return MarkReport(records, answers, [mark(record, answer) for record, answer in zip(records, answers)])


def _prompt_of(assistant: Assistant, record: Instruction | Question, number: int) -> list[int]:
    try:
        return assistant.prompt_ids(record.prompt, getattr(record, "history", ()))
    except ValueError as error:
        raise ValueError(f"record {number}: {error}") from error


def _same_length_batches(rows: list[list[int]], batch_size: int) -> list[list[int]]:
    groups = defaultdict(list)
    for index, row in enumerate(rows):
        groups[len(row)].append(index)
    return [
        groups[length][start : start + batch_size]
        for length in sorted(groups)
        for start in range(0, len(groups[length]), batch_size)
    ]


def _cut(assistant: Assistant) -> str:
    return f" ({CUT})" if assistant.was_cut else ""


def _text_chat(assistant: Assistant, remember: bool) -> None:
    history: list[tuple[str, str]] = []
    while prompt := input("you> ").strip():
        if prompt in ("quit", "exit"):
            break
        answer = assistant.reply(prompt, history if remember else [])
        print(f"assistant> {answer}{_cut(assistant)}")
        history.append((prompt, answer))


def _widget_chat(assistant: Assistant, widgets: ModuleType, remember: bool = False) -> object:
    """Build a chat box: the talk so far as plain text, a line to type in, a button to start again."""
    history: list[tuple[str, str]] = []
    talk = widgets.Textarea(layout={"width": "100%", "height": "16em"}, disabled=True)
    line = widgets.Text(placeholder="Ask, then press Enter", layout={"width": "80%"}, continuous_update=False)
    again = widgets.Button(description="New chat")

    def send(change: dict) -> None:
        prompt, line.value = change["new"].strip(), ""
        if not prompt:
            return
        before = talk.value + f"you: {prompt}\nassistant: "
        try:
            for piece in assistant.stream(prompt, history if remember else []):
                talk.value = before = before + piece
            history.append((prompt, before.rsplit("assistant: ", 1)[-1]))
            before += _cut(assistant)
        except ValueError as error:
            before += f"({error})"
        talk.value = before + "\n"

    def restart(_button: object) -> None:
        talk.value = ""
        history.clear()

    line.observe(send, names="value")
    again.on_click(restart)
    return widgets.VBox([talk, widgets.HBox([line, again])])
