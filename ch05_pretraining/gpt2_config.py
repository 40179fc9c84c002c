"""GPT-2's `config.json`, key by key: what is read, what must have GPT-2's value, and what changes no logit.

The numbers of a model mean something only together with its config, and transformers knows variants of GPT-2 that have
the same weights and other arithmetic. So every key is in one of three tables: it is read into our config, it is refused
unless it has the value that our model computes with, or it is passed over, and then the table says why. A key that is
in none of them means nothing to transformers' GPT-2 either; a warning names it.

References: `GPT2Config` of the transformers library, versions 3 to 5. Taught in ch05, section 5.13.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import TypeVar

from ch04_gpt_model.gpt_config import GPTConfig

T = TypeVar("T")

LARGEST = 10**8  # whole number that a config may have; the longest published contexts have a tenth of that
# read: GPT-2's key -> the value that a missing one has
READ = {
    "vocab_size": 50_257, "n_positions": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_inner": None,
    "tie_word_embeddings": True,
}  # fmt: skip
SIZES = READ.keys() - {"tie_word_embeddings"}
# read as well: words of newer configs for the same
SAME_AS = {
    "max_position_embeddings": "n_positions", "hidden_size": "n_embd", "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}  # fmt: skip
# refused unless the value is one of these; the first is that of a missing key
ONLY: dict[str, list] = {
    "model_type": ["gpt2"],
    "architectures": [None, ["GPT2LMHeadModel"], ["GPT2Model"]],  # others have a head of their own
    "auto_map": [None],  # code of the model's own
    "activation_function": ["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast"],
    "layer_norm_epsilon": [1e-5],
    "scale_attn_weights": [True],
    "scale_attn_by_inverse_layer_idx": [False],
    "add_cross_attention": [False],
    "is_encoder_decoder": [False],
    "pruned_heads": [None, {}],
    "quantization_config": [None],
}
PASSED_OVER = {
    "acts in training only; give dropout in your own GPTConfig": (
        "attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_first_dropout", "classifier_dropout", "hidden_dropout",
        "initializer_range", "gradient_checkpointing",
    ),
    "is for the heads of other tasks, whose weights are refused": (
        "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "num_labels", "_num_labels",
        "id2label", "label2id", "problem_type", "finetuning_task",
    ),
    "says what a call gives back": (
        "use_cache", "output_attentions", "output_hidden_states", "output_past", "return_dict", "torchscript",
    ),
    "is for texts and their generation, where `generate` has its own arguments": (
        "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
        "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "tokenizer_class", "prefix",
        "task_specific_params", "max_length", "min_length", "do_sample", "early_stopping", "num_beams",
        "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
        "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
        "num_return_sequences", "output_scores", "return_dict_in_generate", "remove_invalid_values",
        "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
    ),
    "is another way to the same numbers; ours are read as they are stored and computed in float32": (
        "dtype", "torch_dtype", "use_bfloat16", "reorder_and_upcast_attn", "chunk_size_feed_forward",
        "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "tf_legacy_loss",
    ),
    "has no effect in GPT-2": (
        "n_ctx", "n_special", "predict_special_tokens", "is_decoder", "cross_attention_hidden_size",
        "tie_encoder_decoder",
    ),
    "says where the file comes from": ("_name_or_path", "name_or_path", "transformers_version", "_commit_hash"),
}  # fmt: skip


def read_gpt2_config(file: str | Path) -> GPTConfig:
    """Read GPT-2's config file, refusing by its name every key that asks for other arithmetic than ours.

    Args:
        file: a `config.json` of the transformers library.

    Raises:
        ValueError: no such file, another architecture, or a value that our model does not compute with.

    Source: Radford et al. (2019), section 2.3. Taught in ch05, section 5.13.
    """
    return read_config(file, _gpt2_config, "GPT-2", ONLY["model_type"])


def read_config(file: str | Path, read: Callable[[dict], T], family: str, kinds: list[str]) -> T:
    """Read a config file of the transformers library, naming the file in what is refused.

    Args:
        file: a `config.json`.
        read: says in our words what the file's keys and values say.
        family: what the file should describe.
        kinds: the values of `model_type` that may stand there.

    Raises:
        ValueError: no such file, no keys with values, or `read` refuses them.

    Source: the file layout of the transformers library. For ch05, section 5.13.
    """
    if not (file := Path(file)).is_file():
        raise ValueError(
            f"{file.parent} has no {file.name}, so it does not describe a {family}: give the folder of such a model"
        )
    advice = "get it again"
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(theirs, dict):
            raise ValueError(f"it holds a {type(theirs).__name__} and no keys with values")
        if "model_type" not in theirs:
            own = ", but a config of this course, whose folders load_model opens" if "d_model" in theirs else ""
            raise ValueError(f"it has no model_type{own}")
        advice = "give a folder of that architecture"
        require_values(theirs, {"model_type": kinds})
        advice = "get the file again, or take another model"
        return read(theirs)
    except (OSError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{file} does not describe a {family} ({error}): {advice}") from error


def _gpt2_config(theirs: dict) -> GPTConfig:
    require_values(theirs, ONLY)
    name_unknown(theirs, {*READ, *SAME_AS, *ONLY}.union(*PASSED_OVER.values()), "GPT-2")
    theirs = READ | {key: value for key, value in _one_word_each(theirs).items() if key in READ}
    require_values(theirs, {"tie_word_embeddings": [True, False]})
    require_numbers({key: value for key, value in theirs.items() if value is not None}, whole=SIZES)
    return GPTConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["n_positions"],
        d_model=theirs["n_embd"],
        n_heads=theirs["n_head"],
        n_layers=theirs["n_layer"],
        d_ff=theirs["n_inner"],
        tie_weights=theirs["tie_word_embeddings"],
    )


def require_values(theirs: dict, only: dict[str, list]) -> None:
    """Refuse, by the key's name, a value that asks for other arithmetic than ours.

    Args:
        theirs: keys and values of a config.
        only: key -> the values that may stand there; the first is that of a missing key.

    Raises:
        ValueError: another value.

    Source: this course. For ch05, section 5.13.
    """
    for key, allowed in only.items():
        value = theirs.get(key, allowed[0])
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
            raise ValueError(f"{key} is {value!r}, and this loader reads {' or '.join(map(repr, allowed))} only")


def require_numbers(theirs: dict, whole: Iterable[str] = (), others: Iterable[str] = ()) -> None:
    """Refuse, by the key's name, a value that is no number or one out of reach.

    Args:
        theirs: keys and values of a config; keys that it lacks are passed over.
        whole: keys of whole numbers, 1 to `LARGEST`.
        others: keys of other numbers, above 0 and finite.

    Raises:
        ValueError: another value.

    Source: this course. For ch05, section 5.13.
    """
    for key in sorted(theirs.keys() & set(whole)):
        if not _is_number(theirs[key], int) or not 1 <= theirs[key] <= LARGEST:
            raise ValueError(f"{key} is {theirs[key]!r}, expected a whole number from 1 to {LARGEST}")
    for key in sorted(theirs.keys() & set(others)):
        if not _is_number(theirs[key], int | float) or not 0 < theirs[key] < math.inf:
            raise ValueError(f"{key} is {theirs[key]!r}, expected a number above 0")


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def name_unknown(theirs: dict, known: set[str], family: str) -> None:
    """Warn of keys that mean nothing to a family, so that nobody believes that they were followed.

    Args:
        theirs: keys and values of a config.
        known: keys that are read, refused or passed over.
        family: for the message.

    Source: this course. For ch05, section 5.13.
    """
    if unknown := sorted(theirs.keys() - known):
        message = f"config.json has keys that {family} does not know, and they were passed over: {', '.join(unknown)}"
        warnings.warn(message, stacklevel=5)


def _one_word_each(theirs: dict) -> dict:
    """The keys with newer words put into GPT-2's own, refusing two words that contradict each other."""
    renamed = {SAME_AS[key]: value for key, value in theirs.items() if key in SAME_AS}
    for newer, key in SAME_AS.items():
        if newer in theirs and theirs.get(key, theirs[newer]) != theirs[newer]:
            raise ValueError(f"{key} is {theirs[key]!r} and {newer}, which means the same, is {theirs[newer]!r}")
    return theirs | renamed


def gpt2_config(config: GPTConfig) -> dict:
    """Say in GPT-2's words what `read_gpt2_config` reads.

    Args:
        config: shape of our model.

    Source: Radford et al. (2019), section 2.3. Taught in ch05, section 5.13.
    """
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_weights,
    }
