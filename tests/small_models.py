"""The tests' tiny models and tokenizer, and what is done to them: weights shaken, random ids fed, a run interrupted."""

import dataclasses
from pathlib import Path

import tiktoken
import torch
from torch.overrides import TorchFunctionMode

from ch02_text_data.bpe import GPT2_PATTERN
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.checkpoints import unique_tensors

TINY = GPTConfig(vocab_size=64, context_length=32, d_model=32, n_heads=2, n_layers=2)


def tiny_model(seed: int = 0, **changes) -> GPTModel:
    """A GPT of the shape TINY, but for these changes; the same seed draws the same weights."""
    torch.manual_seed(seed)
    return GPTModel(dataclasses.replace(TINY, **changes))


def shaken(make, scale: float, seed: int = 0):
    """A double-precision model with weights large enough that its tokens differ."""
    torch.manual_seed(seed)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


def sine_weights(model):
    """A model whose weights are a formula: the same on every machine, without any generator."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            angles = torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape)
            parameter.copy_(torch.sin(angles * 1.3 + i) * 0.8)
    return model


def tiktoken_of_bytes() -> tiktoken.Encoding:
    """tiktoken's class with the bytes as its vocabulary and, as GPT-2 has it, <|endoftext|> alone."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    specials = {"<|endoftext|>": 256}
    return tiktoken.Encoding("bytes", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def random_ids(config, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Ids (rows, length) drawn from the whole vocabulary."""
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def random_batches(n_batches: int, seed: int = 0, rows: int = 4, length: int = 16, vocab_size: int = TINY.vocab_size):
    """Batches of random ids and targets, (rows, length) each."""
    ids = torch.randint(vocab_size, (n_batches, rows, length + 1), generator=torch.Generator().manual_seed(seed))
    return [(row[:, :-1], row[:, 1:].clone()) for row in ids]


def weights(model) -> dict[str, torch.Tensor]:
    """The weights by name, shared ones once."""
    return {name: tensor.detach() for name, tensor in unique_tensors(model).items()}


def weight_vector(model) -> torch.Tensor:
    """All weights in a row."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def press_at(step: int):
    """An `on_step` that presses Ctrl-C after this step."""

    def on_step(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return on_step


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def publish(folder: Path, *, template: str | None = CHATML, begins: bool = False, seed: int = 0) -> Path:
    """Write a tiny Llama of random weights and its tokenizer as their publisher would: a Hugging Face folder."""
    import tokenizers
    import transformers

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320, special_tokens=names, initial_alphabet=letters, show_progress=False
    )
    made.train_from_iterator(["What is the sea? The sea is large and deep. " * 20], trainer)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=names[1], eos_token=names[2], add_bos_token=begins, chat_template=template
    )
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=made.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.5,
        bos_token_id=1, eos_token_id=[2, 0], tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    theirs.save_pretrained(folder)
    return folder


class InFloat64(TorchFunctionMode):
    """The formulas of transformers as they are, in float64 wherever they ask for float32: norms, angles, softmax."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = ([torch.float64 if a is torch.float32 else a for a in args], dict(kwargs or {}))
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in kwargs.items()}
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **kwargs)
