"""One measurement of `python course.py bench`, in a process of its own: what is timed, for us and for the peers.

    python -m shared.commands.bench_measures training '{"side": "ours", "shape": "story"}'

The process prepares itself and says `ready`; for every line it then reads it does one round and answers with the
units done and the seconds they took, or with what was learned; when there are no more lines it answers with the most
memory it has had.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

PROMPT = 16  # tokens


# ---------------------------------------------------------------- sizes


def config_of(shape: str):
    """Return the config that a shape's name stands for: "story", "124M", or "tiny" for the tests."""
    from ch04_gpt_model.gpt_config import GPTConfig

    if shape == "tiny":
        return GPTConfig(vocab_size=GPTConfig.story().vocab_size, context_length=320, d_model=16, n_heads=2, n_layers=1)
    return GPTConfig.story() if shape == "story" else GPTConfig.gpt2(shape)


def peer_of(shape: str):
    """Build transformers' GPT-2 of the same shape, without dropout."""
    import transformers

    transformers.logging.set_verbosity_error()
    c = config_of(shape)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=c.vocab_size,
            n_positions=c.context_length,
            n_embd=c.d_model,
            n_layer=c.n_layers,
            n_head=c.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
    )


def batches(n: int, batch_size: int, length: int, vocab_size: int) -> list:
    """Make batches of random tokens: speed does not depend on what the tokens mean."""
    import torch

    rows = torch.randint(vocab_size, (n, batch_size, length + 1), generator=torch.Generator().manual_seed(0))
    return [(row[:, :-1], row[:, 1:]) for row in rows]


# ---------------------------------------------------------------- what is measured: each returns one round


def training(side: str, shape: str, precision: str, batch_size: int, length: int, n_steps: int):
    """One round: steps of AdamW; units are tokens. The first step, which makes the optimizer's memory, is not timed."""
    data = batches(n_steps + 1, batch_size, length, config_of(shape).vocab_size)
    step_all = (_train_ours if side == "ours" else _train_peer)(shape, precision, data)

    def one_round():
        stamps = step_all()
        return n_steps * batch_size * length, stamps[-1] - stamps[0]

    return one_round


def _train_ours(shape, precision, data):
    from ch04_gpt_model.gpt_model import GPTModel
    from ch05_pretraining.pretraining import TrainConfig, train

    model = GPTModel(config_of(shape))
    config = TrainConfig(
        len(data), learning_rate=1e-4, warmup_steps=0, precision=precision, products="auto", schedule="constant"
    )
    return lambda: train(model, data, None, config).seconds


def _train_peer(shape, precision, data):
    import torch

    model = peer_of(shape).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def all_steps():
        stamps = []
        for ids, _ in data:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss  # it shifts the labels itself
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()
            stamps.append(time.perf_counter())
        return stamps

    return all_steps


def generation(side: str, shape: str, batch_size: int, n_new: int, use_cache: bool = True, seconds: float = 0.0):
    """One round: so many new tokens for each prompt, the likeliest each time; units are tokens.

    A round is repeated until it has taken `seconds`: one disturbance is then a small part of it.
    """
    ids = _prompts(config_of(shape).vocab_size, batch_size)
    write = (_write_ours if side == "ours" else _write_peer)(shape, ids, n_new, use_cache)

    def one_round():
        rows, n_times, taken = _repeated(write, seconds)
        if rows.shape != (batch_size, PROMPT + n_new):
            raise ValueError(f"{side} wrote {tuple(rows.shape)}, expected {(batch_size, PROMPT + n_new)}")
        return n_times * batch_size * n_new, taken

    return one_round


def _prompts(vocab_size: int, batch_size: int, length: int = PROMPT):
    import torch

    return torch.randint(vocab_size, (batch_size, length), generator=torch.Generator().manual_seed(0))


def _repeated(write: Callable, seconds: float):
    """Write until it has taken so many seconds: -> what was written last, how many times, the seconds."""
    n_times, begun = 0, time.perf_counter()
    while not n_times or time.perf_counter() - begun < seconds:
        rows = write()
        n_times += 1
    return rows, n_times, time.perf_counter() - begun


def published(side: str, source: str, n_new: int, seconds: float = 0.0):
    """One round: so many new tokens of a published model, the likeliest each time; units are tokens.

    "ours" opens whatever `load_pretrained` opens, "transformers" a folder in its own layout. Told are the `ids` too,
    and the `bytes` of weights that each of them reads.
    """
    model, write = (_published_ours if side == "ours" else _published_peer)(source, n_new)
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())  # a head that is the table counts once

    def one_round():
        rows, n_times, taken = _repeated(write, seconds)
        ids = rows[0, PROMPT:].tolist()
        if len(ids) != n_new:
            raise ValueError(f"{side} wrote {len(ids)} tokens, expected {n_new}")
        return {"units": n_times * n_new, "seconds": taken, "ids": ids, "bytes": n_bytes}

    return one_round


def _published_ours(source: str, n_new: int):
    from ch04_gpt_model.generation import generate
    from ch05_pretraining.open_weights import load_pretrained

    model, _ = load_pretrained(source)
    ids = _prompts(model.config.vocab_size, 1)
    return model, lambda: generate(model, ids, n_new)


def _published_peer(source: str, n_new: int):
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    model.generation_config.eos_token_id = None  # both write on to the last token that is asked for
    ids = _prompts(model.config.vocab_size, 1)
    options: dict[str, Any] = {"max_new_tokens": n_new, "do_sample": False, "pad_token_id": 0}
    return model, lambda: model.generate(ids, attention_mask=torch.ones_like(ids), **options)


def _write_ours(shape, ids, n_new, use_cache):
    from ch04_gpt_model.generation import generate
    from ch04_gpt_model.gpt_model import GPTModel

    model = GPTModel(config_of(shape))
    return lambda: generate(model, ids, n_new, use_cache=use_cache)


def _write_peer(shape, ids, n_new, use_cache):
    import torch

    model, read_all = peer_of(shape).eval(), torch.ones_like(ids)
    options = {"max_new_tokens": n_new, "do_sample": False, "use_cache": use_cache, "pad_token_id": 0}
    return lambda: model.generate(ids, attention_mask=read_all, **options)


def modern_of(shape: str):
    """Return the config of a Llama-style shape: "135M" is that of SmolLM2, "tiny" is for the tests."""
    from ch04_gpt_model.modern_gpt import ModernConfig

    if shape == "tiny":
        return ModernConfig(64, 320, d_model=32, n_heads=2, n_layers=1, n_kv_heads=1, d_ff=64, qk_norm=False)
    return ModernConfig(49_152, 2048, d_model=576, n_heads=9, n_layers=30, n_kv_heads=3, d_ff=1536, qk_norm=False)


def weight_bytes(shape: str, precision: str) -> float:
    """Count the bytes of a shape's matrices in "float32", "bfloat16", "int8" (by row) or "Q4_0", the head's too."""
    import torch

    from ch04_gpt_model.modern_gpt import ModernGPT

    with torch.device("meta"):
        layers = _linear_layers(ModernGPT(modern_of(shape)))
    numbers, rows = sum(layer.weight.numel() for layer in layers), sum(len(layer.weight) for layer in layers)
    sizes = {"float32": 4 * numbers, "bfloat16": 2 * numbers, "int8": numbers + 4 * rows, "Q4_0": numbers * 18 / 32}
    return sizes[precision]


def _random_model(shape: str):
    """Build the same model of random weights in every process."""
    import torch

    from ch04_gpt_model.modern_gpt import ModernGPT

    torch.manual_seed(0)
    return ModernGPT(modern_of(shape)).eval()


def _linear_layers(model) -> list:
    from torch import nn

    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


def precision(side: str, shape: str, n_new: int, seconds: float = 0.0):
    """One round: so many new tokens of one text with weights in "float32", "bfloat16" or "int8"; units are tokens.

    The eight-bit products are PyTorch's own, which read the weights in eight bits and the rest in float32.
    """
    from ch04_gpt_model.generation import generate

    model = _random_model(shape)
    ids = _prompts(model.config.vocab_size, 1)
    if side == "bfloat16":
        model.bfloat16()
    elif side == "int8":
        _compute_in_int8(model)

    def one_round():
        _, n_times, taken = _repeated(lambda: generate(model, ids, n_new), seconds)
        return n_times * n_new, taken

    return one_round


def _compute_in_int8(model) -> None:
    """Give each linear layer of a model a `forward` with weights in eight bits."""
    from ch04_gpt_model.quantization import int8_by_row

    for layer in _linear_layers(model):
        numbers, scale = int8_by_row(layer.weight.detach())
        layer.forward = partial(_int8_product, numbers, scale[:, 0])


def _int8_product(numbers, scale, x):
    import torch

    rows = torch._weight_int8pack_mm(x.reshape(-1, x.shape[-1]), numbers, scale)
    return rows.view(*x.shape[:-1], len(numbers))


def drafted(side: str, n_new: int, n_stories: int = 1_000, n_prompts: int = 4, seconds: float = 0.0):
    """One round: so many new tokens for each of some stories' beginnings, the likeliest; units are tokens.

    The story GPT writes alone, or, "ours", with a trigram that guesses four tokens. Told are the `ids`, too.
    """
    import torch

    from ch01_understanding_llms.fast_counts import FastNgramModel
    from ch04_gpt_model.generation import generate
    from ch04_gpt_model.inference import generate_with_draft
    from ch05_pretraining.saved_models import load_story_gpt
    from data.loaders import load_stories

    tokenizer: Any
    model, tokenizer = load_story_gpt()
    end = tokenizer.special_tokens["<|endoftext|>"]
    rows = [[end, *tokenizer.encode(story.text)] for story in load_stories("train", n_stories)]
    trigram = FastNgramModel(3, tokenizer.vocab_size).fit([token for row in rows for token in row])
    new = [[end, *tokenizer.encode(story.text)][:PROMPT] for story in load_stories("validation", n_prompts)]

    def write(prompt):
        ids = torch.tensor([prompt])
        if side == "ours":
            draft = lambda text: torch.from_numpy(trigram.next_probabilities(text[-2:]))  # noqa: E731
            return generate_with_draft(model, draft, ids, n_new)
        return generate(model, ids, n_new)

    def one_round():
        texts, n_times, taken = _repeated(lambda: [write(prompt) for prompt in new], seconds)
        ids = [text[0].tolist() for text in texts]
        return {"units": n_times * n_prompts * n_new, "seconds": taken, "ids": ids}

    return one_round


def unequal(side: str, shape: str, n_new: int, lengths: Sequence[int] = (4, 16, 9, 30), seconds: float = 0.0):
    """One round: so many new tokens for prompts of these lengths; "ours" side by side; units are tokens.

    The other side writes one text after another. Told are the `ids`, too.
    """
    from ch04_gpt_model.generation import generate
    from ch04_gpt_model.inference import generate_batch

    model = _random_model(shape)
    prompts = [_prompts(model.config.vocab_size, 1, length)[0] for length in lengths]

    def write():
        if side == "ours":
            return generate_batch(model, prompts, n_new)
        return [generate(model, prompt[None], n_new)[0] for prompt in prompts]

    def one_round():
        texts, n_times, taken = _repeated(write, seconds)
        ids = [text.tolist() for text in texts]
        return {"units": n_times * len(prompts) * n_new, "seconds": taken, "ids": ids}

    return one_round


def bytes_read(shape: str, batch_size: int, n_new: int) -> float:
    """Count what one step of cached generation has to read in float32: every weight, the keys and values so far.

    The table of positions gives a row and is left out; the cache is counted as long as it is on average.
    """
    c = config_of(shape)
    weights = c.n_layers * c.d_model * (4 * c.d_model + 2 * c.d_ff) + c.vocab_size * c.d_model
    cached = 2 * c.n_layers * batch_size * (PROMPT + n_new / 2) * c.d_model
    return 4.0 * (weights + cached)


def reading(n_bytes: float, seconds: float = 0.5):
    """One round: so many bytes read from memory as fast as it goes; units are bytes."""
    import torch

    numbers = torch.ones(int(n_bytes) // 4)

    def one_round():
        fastest, begun, n_tries = float("inf"), time.perf_counter(), 0
        while n_tries < 3 or time.perf_counter() - begun < seconds:
            start = time.perf_counter()
            numbers.sum()
            fastest, n_tries = min(fastest, time.perf_counter() - start), n_tries + 1
        return numbers.nbytes, fastest

    return one_round


def bpe_training(side: str, n_bytes: int, vocab_size: int):
    """One round: a tokenizer trained on so many bytes of stories; units are bytes."""
    texts = story_texts(n_bytes)
    learn = (_bpe_ours if side == "ours" else _bpe_peer)(vocab_size)
    return _timed(lambda: learn(texts), n_bytes)


def bpe_encoding(side: str, n_bytes: int, vocab_size: int):
    """One round: so many bytes of stories encoded; "ours" as it stands, "tiktoken" through `to_tiktoken`."""
    texts = story_texts(n_bytes)
    tokenizer = (_bpe_peer if side == "tokenizers" else _bpe_ours)(vocab_size)(story_texts(min(n_bytes, 200_000)))
    encode = tokenizer.to_tiktoken().encode_ordinary if side == "tiktoken" else tokenizer.encode
    return _timed(lambda: [encode(text) for text in texts], n_bytes)


def _timed(work, n_units: int):
    def one_round():
        begun = time.perf_counter()
        work()
        return n_units, time.perf_counter() - begun

    return one_round


def _bpe_ours(vocab_size: int):
    from ch02_text_data.text_data import BPETokenizer

    return lambda texts: BPETokenizer.train(texts, vocab_size)


def _bpe_peer(vocab_size: int):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def learn(texts):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        special = ["<|endoftext|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=special, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer

    return learn


def story_texts(n_bytes: int) -> list[str]:
    """Return stories of so many bytes together, within one story."""
    from data.loaders import load_stories

    n = 64
    while True:
        texts, total = [], 0
        for story in load_stories("train", n):
            texts.append(story.text)
            total += len(story.text.encode("utf-8"))
            if total >= n_bytes:
                return texts
        n *= 4


def ceiling(precision: str, size: int):
    """One round: the fastest product of two square matrices; units are floating-point operations."""
    import torch

    from ch05_pretraining.scaling import matrix_product_ceiling

    return lambda: (matrix_product_ceiling(getattr(torch, precision), size, seconds=3.0), 1.0)


# ---------------------------------------------------------------- what is learned in a given time


def learning(optimizer: str, seconds: float, shape: str = "story", n_stories: int = 20_000):
    """One round: a story GPT trained from random weights for so long, its schedule made for that; -> loss."""
    import torch

    from ch02_text_data.datasets import create_story_dataloader
    from ch04_gpt_model.gpt_model import GPTModel
    from ch05_pretraining.evaluation import evaluate
    from ch05_pretraining.pretraining import TrainConfig, train
    from ch05_pretraining.saved_models import load_story_gpt
    from ch05_pretraining.story_recipe import StoryRecipe
    from data.loaders import load_stories

    recipe, config, (_, tokenizer) = StoryRecipe(), config_of(shape), load_story_gpt()
    create = partial(create_story_dataloader, tokenizer=tokenizer, batch_size=recipe.batch_size,
                     max_length=config.context_length)  # fmt: skip
    loader = create(load_stories("train", n_stories))
    watched = create(load_stories("validation", 128), shuffle=False)
    rate = 3e-3 if optimizer == "adamw" else recipe.learning_rate

    def run(n_steps: int):
        torch.manual_seed(0)
        model = GPTModel(config)
        chosen = TrainConfig(n_steps, rate, optimizer=optimizer, schedule="linear", decay_fraction=0.6, products="auto",
                             muon_learning_rate=recipe.muon_learning_rate, weight_decay=recipe.weight_decay,
                             warmup_steps=min(50, n_steps // 4))  # fmt: skip
        return model, train(model, loader, None, chosen).seconds

    def one_round():
        trial = run(24)[1]
        n_steps = max(1, round(seconds * 20 / (trial[23] - trial[3])))
        model, stamps = run(n_steps)
        return {"loss": evaluate(model, watched), "steps": n_steps, "seconds": stamps[-1]}

    return one_round


class _Characters:
    """A tokenizer whose tokens are single characters."""

    def __init__(self, text: str):
        self.ids = {character: number for number, character in enumerate(sorted(set(text)))}

    def encode(self, text: str) -> list[int]:
        return [self.ids[character] for character in text]


def yardstick(recipe: str, n_steps: int, n_bytes: int = 1_000_000, every: int = 50):
    """One round: 4 layers, 4 heads, width 128, context 64, batches of 12, single characters; -> losses by seconds."""
    import torch

    from ch02_text_data.datasets import create_dataloader
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch04_gpt_model.gpt_model import GPTModel
    from ch05_pretraining.evaluation import evaluate
    from ch05_pretraining.pretraining import TrainConfig, train

    text = "\n\n".join(story_texts(n_bytes))[:n_bytes]
    characters, cut = _Characters(text), int(0.9 * n_bytes)
    create = partial(create_dataloader, tokenizer=characters, batch_size=12, max_length=64, stride=64)
    loader, watched = create(text[:cut]), create(text[cut:], shuffle=False)
    if recipe == "plain":
        config = TrainConfig(n_steps, 1e-3, schedule="constant", warmup_steps=0)
    else:
        config = TrainConfig(n_steps, 1e-2, muon_learning_rate=2e-2, optimizer="muon", schedule="linear",
                             weight_decay=0.0, warmup_steps=20, decay_fraction=0.8, products="auto")  # fmt: skip

    def one_round():
        torch.manual_seed(0)
        model = GPTModel(GPTConfig(len(characters.ids), 64, 128, 4, 4))
        clock, points = _Clock(), []

        def look(progress):
            if progress.step % every == 0:
                clock.stop()
                points.append((clock.seconds, evaluate(model, watched, 40)))
                clock.go_on()

        train(model, loader, None, config, on_step=look)
        return {"seconds": [s for s, _ in points], "losses": [loss for _, loss in points]}

    return one_round


class _Clock:
    """Counts the seconds of training and not those of looking at the validation loss."""

    def __init__(self):
        self.seconds, self.since = 0.0, time.perf_counter()

    def stop(self):
        self.seconds += time.perf_counter() - self.since

    def go_on(self):
        self.since = time.perf_counter()


MEASURES: dict[str, Callable[..., Callable]] = {
    "training": training, "generation": generation, "published": published,
    "precision": precision, "drafted": drafted, "unequal": unequal,
    "bpe_training": bpe_training, "bpe_encoding": bpe_encoding,
    "ceiling": ceiling, "reading": reading, "learning": learning, "yardstick": yardstick,
}  # fmt: skip


# ---------------------------------------------------------------- the process


def peak_megabytes() -> float | None:
    """Return the most memory this process has had, in MB; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")  # Linux: of this program alone
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            return int(found[1]) / 1e3
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def main(name: str, options: str) -> None:
    """Prepare a measurement, then do a round for each line that comes."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may speak on the line to the parent
    one_round = MEASURES[name](**json.loads(options))
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        done = one_round()
        answer = done if isinstance(done, dict) else {"units": done[0], "seconds": done[1]}
        print(json.dumps(answer), file=answers, flush=True)
    print(json.dumps({"peak_mb": peak_megabytes()}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
