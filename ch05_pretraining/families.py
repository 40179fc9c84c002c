"""Families of published models: what their `config.json` says in our words, and one table of their names and ours.

Llama, Mistral, Qwen2 and Qwen3 are one architecture with a few switches; `ModernConfig` has a field for each, and
`RecentConfig` one for what windows in use, OLMo 2 and 3 and Gemma 3 need beside them. As for GPT-2 (`gpt2_config.py`),
every key is read, or refused unless it has the value that our model computes with, or passed over, and then a table
says why; a key that is in none of the tables is named in a warning.

Left out: mixtures of experts, pictures, rotations of a part of each head, and the other scalings of the rotations
(yarn, dynamic, longrope); a model that needs one of them is refused by the key that says so.

References: Touvron et al. (2023), "LLaMA"; Jiang et al. (2023), "Mistral 7B"; Yang et al. (2024), "Qwen2"; Yang et al.
(2025), "Qwen3"; Team OLMo (2024), "2 OLMo 2 furious"; Gemma Team (2025), "Gemma 3"; the configs of the transformers
library, versions 4 and 5. For ch04, section M.8.
"""

import dataclasses
import math
from typing import NamedTuple

from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch04_gpt_model.recent_gpt import RecentConfig, RecentGPT
from ch05_pretraining.gpt2_config import PASSED_OVER, name_unknown, require_numbers, require_values
from ch05_pretraining.weight_files import HEAD, Names, empty_model

# their name -> ours, in a block and around the blocks
BLOCK_NAMES = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.o_proj": "attention.out_proj",
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
    "mlp.gate_proj": "feed_forward.gate_proj",
    "mlp.up_proj": "feed_forward.up_proj",
    "mlp.down_proj": "feed_forward.down_proj",
}
# and of the norms, by where they stand: one name means two things
NORM_NAMES = {
    "before": {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"},
    "after": {"post_attention_layernorm": "after1", "post_feedforward_layernorm": "after2"},
    "both": {"input_layernorm": "norm1", "post_attention_layernorm": "after1",
             "pre_feedforward_layernorm": "norm2", "post_feedforward_layernorm": "after2"},
}  # fmt: skip
MODEL_NAMES = {"embed_tokens": "token_embedding", "norm": "final_norm"}
PREFIX = "model."  # before all names but the head's


class Family(NamedTuple):
    """What tells a family from the others.

    Args:
        name: how its classes in transformers begin.
        defaults: keys that are read here only, or whose missing value is another one here.
        switches: true or false in the config -> the fields of ours that it sets.
        always: fields of ours that the config need not say.
        windows: which blocks have the config's window unless `layer_types` says it: "none", "all", "late" (from
            `max_window_layers` on) or "most" (all but each so manieth).

    Source: the configs of the transformers library.
    """

    name: str
    defaults: dict
    switches: dict[str, tuple[str, ...]]
    always: dict
    windows: str = "none"


TIED: dict[str, tuple[str, ...]] = {"tie_word_embeddings": ("tie_weights",)}
BIASES = {"attention_bias": ("qkv_bias", "out_bias")}
QWEN = {"num_key_value_heads": 32, "sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28}
OLMO = {"qk_norm": True, "norm_across_heads": True, "norms": "after"}
GEMMA = {"num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
         "rope_theta": 1e6, "rope_local_base_freq": 1e4, "query_pre_attn_scalar": 256,
         "tie_word_embeddings": True}  # fmt: skip
FAMILIES = {
    "llama": Family("Llama", {}, TIED | BIASES | {"mlp_bias": ("ff_bias",)}, {"qk_norm": False}),
    "mistral": Family("Mistral", {"num_key_value_heads": 8, "sliding_window": 4096}, TIED, {"qk_norm": False}, "all"),
    "qwen2": Family("Qwen2", QWEN, TIED, {"qk_norm": False, "qkv_bias": True}, "late"),
    "qwen3": Family("Qwen3", QWEN | {"head_dim": 128}, TIED | BIASES, {"qk_norm": True}, "late"),
    "olmo2": Family("Olmo2", {"rms_norm_eps": 1e-5}, TIED | BIASES, OLMO),
    "olmo3": Family("Olmo3", {"rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4},
                    TIED | BIASES, OLMO, "most"),
    "gemma3_text": Family("Gemma3", GEMMA, TIED | BIASES,
                          {"qk_norm": True, "norms": "both", "gelu_gate": True, "norm_from_one": True,
                           "scale_embeddings": True}, "most"),
}  # fmt: skip
FULL, WINDOW = "full_attention", "sliding_attention"  # kinds of blocks, as the configs call them
# read in all families: key -> the value of a missing one, or our field for a key that may not be missing
READ = {"num_key_value_heads": None, "head_dim": None, "rms_norm_eps": 1e-6, "sliding_window": None,
        "layer_types": None, "rope_theta": 10_000.0, "rope_scaling": None, "rope_parameters": None,
        "original_max_position_embeddings": None}  # fmt: skip
REQUIRED = {"vocab_size": "vocab_size", "max_position_embeddings": "context_length", "hidden_size": "d_model",
            "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers", "intermediate_size": "d_ff"}  # fmt: skip
NOT_GIVEN = [key for key, usual in READ.items() if usual is None]  # may be null
WHOLE = [*REQUIRED, "num_key_value_heads", "head_dim", "sliding_window", "sliding_window_pattern"]
OTHERS = ["rms_norm_eps", "rope_local_base_freq", "query_pre_attn_scalar"]
# refused unless the value is one of these; the first is that of a missing key
ONLY: dict[str, list] = {
    "hidden_act": ["silu", "swish"],
    "hidden_activation": ["gelu_pytorch_tanh"],  # of Gemma
    "attn_logit_softcapping": [None],
    "final_logit_softcapping": [None],
    "use_bidirectional_attention": [None, False],
    "partial_rotary_factor": [None, 1.0],
    "rope_interleaved": [None, False],
    "use_mrope": [None, False],
    "dual_chunk_attention_config": [None],
    "num_experts": [None, 0],
    "num_local_experts": [None, 0],
    "auto_map": [None],  # code of the model's own
    "is_encoder_decoder": [False],
    "pruned_heads": [None, {}],
    "quantization_config": [None],
}
PASSED_OVER_HERE = {
    "acts in training only": ("attention_dropout",),
    "is another way to the same numbers": ("pretraining_tp",),
    "has no effect in these families": ("is_llama_config", "transformers.js_config"),
    "says what layer_types says, or how a cache is stored": ("_sliding_window_pattern", "cache_implementation"),
}
# kinds of scaling of the rotations -> the numbers that each needs
SCALINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
LLAMA3_TURNS = (1.0, 4.0)  # low and high, in all models of Llama 3.1 to 3.3
OLD_CONTEXTS = [2**n for n in range(4, 21)]  # tokens; 8,192 in those models
OF_ALL_SCALINGS = {"type", "rope_type", "rope_theta", "factor"}


def modern_config(theirs: dict) -> ModernConfig:
    """Say in our words what the config of a family says, or refuse it by a key's name.

    Args:
        theirs: content of a `config.json`.

    Returns:
        A `RecentConfig` where blocks have windows and in the families of OLMo and Gemma, else a plain one.

    Raises:
        ValueError: another family, a key that is missing, or a value that our model does not compute with.

    Source: Touvron et al. (2023), section 2.2; Yang et al. (2025), section 2. For ch04, section M.8.
    """
    require_values(theirs, {"model_type": list(FAMILIES)})
    family = FAMILIES[theirs["model_type"]]
    ends = ("ForCausalLM", "Model", "TextModel")
    require_values(theirs, ONLY | {"architectures": [None, *([family.name + end] for end in ends)]})
    require_values(theirs, {key: [False, True] for key in family.switches})
    name_unknown(theirs, known_keys(), family.name)
    values = READ | family.defaults | theirs
    if missing := [key for key in REQUIRED if values.get(key) is None]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    given = {key: value for key, value in values.items() if value is not None or key not in NOT_GIVEN}
    require_numbers(given, WHOLE, OTHERS)
    recent = _windows(values, family)
    if "rope_local_base_freq" in family.defaults:
        values["rope_parameters"], recent["window_base"] = _two_bases(values)
        recent["score_width"] = values["query_pre_attn_scalar"]
    switched: dict = {ours: values.get(key, False) for key, many in family.switches.items() for ours in many}
    scaling, head, d_model = _scaling(values), values["head_dim"], values["hidden_size"]
    always = switched | family.always | recent
    class_ = RecentConfig if recent or "norms" in always else ModernConfig
    config = class_(
        **{ours: values[key] for key, ours in REQUIRED.items()}, **always,
        n_kv_heads=values["num_key_value_heads"], norm_eps=values["rms_norm_eps"], rope_base=scaling["rope_theta"],
        head_width=None if head is None or head * values["num_attention_heads"] == d_model else head,
    )  # fmt: skip
    return dataclasses.replace(config, rope_factors=_factors(scaling, config))


def known_keys() -> set[str]:
    """Give all keys that are read, refused or passed over in these families.

    Source: the configs of the transformers library.
    """
    tables = [{"model_type", "architectures"}, READ, REQUIRED, ONLY, *PASSED_OVER.values(), *PASSED_OVER_HERE.values()]
    return set().union(*tables, *([*family.defaults, *family.switches] for family in FAMILIES.values()))


def _windows(values: dict, family: Family) -> dict:
    """The field `windows` where blocks have one; without two bases, a window as long as the context is none."""
    window, n_layers = values["sliding_window"], values["num_hidden_layers"]
    usual = _kinds(values, family)
    kinds = usual if values["layer_types"] is None else values["layer_types"]
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError(f"layer_types is {kinds!r}, expected a list of names")
    if odd := sorted(set(kinds) - {FULL, WINDOW}):
        raise ValueError(f"layer_types has {odd}, and this loader reads {FULL!r} and {WINDOW!r} only")
    if len(kinds) != n_layers:
        raise ValueError(f"layer_types names {len(kinds)} blocks and num_hidden_layers is {n_layers}")
    if family.windows in ("none", "all") and kinds != usual:
        raise ValueError(f"layer_types has {sorted(set(kinds))}, and in this family all blocks are {usual[0]!r} here")
    if WINDOW in kinds and (window is None or (family.windows == "late" and not values["use_sliding_window"])):
        raise ValueError(f"layer_types has {WINDOW!r}, and no window is in use")
    if WINDOW not in kinds or (window >= values["max_position_embeddings"] and family.windows != "most"):
        return {}
    return {"windows": tuple(window if kind == WINDOW else None for kind in kinds)}


def _kinds(values: dict, family: Family) -> list[str]:
    """The kind of each block in a config that has no `layer_types`."""
    n_layers, window = values["num_hidden_layers"], values["sliding_window"]
    if family.windows == "none":
        if window is not None and window < values["max_position_embeddings"]:
            raise ValueError(f"sliding_window is {window}, and in this family no block has a window")
        return [FULL] * n_layers
    if family.windows == "all":
        return [FULL if window is None else WINDOW] * n_layers
    if family.windows == "most":
        return [WINDOW if (i + 1) % values["sliding_window_pattern"] else FULL for i in range(n_layers)]
    first = values["max_window_layers"]
    if type(first) is not int:
        raise ValueError(f"max_window_layers is {first!r}, expected a whole number")
    used = values["use_sliding_window"] and window is not None
    return [WINDOW if used and i >= first else FULL for i in range(n_layers)]


# ---------------------------------------------------------------- how fast the rotations turn


def _two_bases(values: dict) -> tuple[dict | None, float]:
    """The rotations of full blocks and the base of those with windows; newer configs have an entry for each kind."""
    both, base = values["rope_parameters"], values["rope_local_base_freq"]
    if both is None:
        return None, base
    if not isinstance(both, dict) or not both.keys() <= {FULL, WINDOW}:
        raise ValueError(f"rope_parameters is {both!r}, expected settings under {FULL!r} and {WINDOW!r}")
    local = both.get(WINDOW) or {}
    if not isinstance(local, dict) or local.keys() - {"rope_type", "rope_theta"}:
        raise ValueError(f"rope_parameters has {local!r} for {WINDOW!r}, expected a rope_type and a rope_theta")
    require_values(local, {"rope_type": ["default"]})
    require_numbers(local, others=["rope_theta"])
    return both.get(FULL), local.get("rope_theta", base)


def _scaling(values: dict) -> dict:
    """The settings of the rotations, with all numbers that their kind needs; older configs spread them out."""
    for key in ("rope_scaling", "rope_parameters"):
        if not isinstance(values[key], dict | None):
            raise ValueError(f"{key} is {values[key]!r}, expected keys with values")
    both = [values[key] for key in ("rope_scaling", "rope_parameters") if values[key]]
    scaling = dict(both[0] if both else {})
    if both[1:] and both[1] != scaling:
        raise ValueError(f"rope_scaling is {both[0]} and rope_parameters, which means the same, is {both[1]}")
    scaling.setdefault("rope_type", scaling.get("type", "default"))
    require_values(scaling, {"rope_type": list(SCALINGS), "partial_rotary_factor": [None, 1.0]})
    kind = str(scaling["rope_type"])
    if odd := sorted(scaling.keys() - {*OF_ALL_SCALINGS, "partial_rotary_factor", *SCALINGS[kind]}):
        raise ValueError(f"rope_scaling of the type {kind!r} has {', '.join(odd)}, which it does not know")
    scaling.setdefault("rope_theta", values["rope_theta"])
    for old in (values["original_max_position_embeddings"], values["max_position_embeddings"]):
        if old is not None:
            scaling.setdefault("original_max_position_embeddings", old)
    if missing := [key for key in SCALINGS[kind] if scaling.get(key) is None]:
        raise ValueError(f"rope_scaling of the type {kind!r} lacks {', '.join(missing)}")
    require_numbers(scaling, others=["rope_theta", *SCALINGS[kind]])
    return scaling


def _factors(scaling: dict, config: ModernConfig) -> tuple[float, ...] | None:
    if scaling["rope_type"] == "default":
        return None
    if scaling["rope_type"] == "linear":
        return (float(scaling["factor"]),) * (config.d_head // 2)
    return llama3_factors(config, *(float(scaling[key]) for key in SCALINGS["llama3"]))


def llama3_factors(config: ModernConfig, factor: float, low: float, high: float, old: float) -> tuple[float, ...]:
    """Slow down the pairs that had not turned often within the old context, as Llama 3.1 does.

    Args:
        config: shape of the model, with its `rope_base`.
        factor: how many times slower the slowest pairs turn.
        low: pairs with fewer turns in the old context than this are slowed down by the whole factor, > 0.
        high: pairs with more turns than this stay as they are, > low.
        old: the old context, in tokens.

    Shape:
        (K/2,) numbers, for `ModernConfig.rope_factors`.

    Raises:
        ValueError: `high` is not above `low`.

    Source: Meta (2024), the released code of Llama 3.1. For ch04, section M.3.
    """
    if not high > low:
        raise ValueError(f"high_freq_factor is {high} and low_freq_factor {low}, expected a larger and a smaller one")
    n_pairs = config.d_head // 2
    turns = [old * config.rope_base ** (-i / n_pairs) / (2 * math.pi) for i in range(n_pairs)]
    kept = [min(1.0, max(0.0, (turn - low) / (high - low))) for turn in turns]  # share of the old speed
    return tuple(1 / ((1 - share) / factor + share) for share in kept)


# ---------------------------------------------------------------- the other way


def family_config(config: ModernConfig) -> dict:
    """Say in the words of Llama, Qwen2 or Qwen3 what `modern_config` reads.

    A family in which all biases of attention are there or none gets them all; those that our model lacks are then 0.

    Args:
        config: shape of our model.

    Raises:
        ValueError: no family that is written has such a model.

    Source: Touvron et al. (2023), section 2.2; Yang et al. (2025), section 2. For ch04, section M.8.
    """
    if isinstance(config, RecentConfig):
        raise ValueError("found a RecentGPT, and this course writes Llama, Qwen2 and Qwen3: keep it with save_model")
    only_qkv = config.qkv_bias and not (config.out_bias or config.ff_bias)
    name = "qwen3" if config.qk_norm else "qwen2" if only_qkv else "llama"
    family = FAMILIES[name]
    if config.ff_bias and "mlp_bias" not in family.switches:
        raise ValueError("ff_bias=True stands beside qk_norm=True, and no family has both: keep it with save_model")
    return {
        "model_type": name,
        "architectures": [f"{family.name}ForCausalLM"],
        **{theirs: getattr(config, ours) for theirs, ours in REQUIRED.items()},
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "rope_scaling": rope_scaling(config),
        **{key: any(getattr(config, ours) for ours in many) for key, many in family.switches.items()},
    }


def rope_scaling(config: ModernConfig) -> dict | None:
    """Say in the words of these families how much slower the rotations are: not at all, evenly, or as in Llama 3.1.

    Args:
        config: shape of our model.

    Raises:
        ValueError: its `rope_factors` are of no kind that has a name.

    Source: the configs of the transformers library. For ch04, section M.3.
    """
    factors = config.rope_factors or (1.0,)
    if len(set(factors)) == 1:
        return None if factors[0] == 1 else {"rope_type": "linear", "factor": factors[0]}
    for old in OLD_CONTEXTS:
        if all(map(math.isclose, factors, llama3_factors(config, max(factors), *LLAMA3_TURNS, old))):
            return {"rope_type": "llama3"} | dict(zip(SCALINGS["llama3"], (max(factors), *LLAMA3_TURNS, old)))
    raise ValueError("rope_factors are neither all equal nor those of Llama 3.1: keep the model with save_model")


# ---------------------------------------------------------------- names


def modern_names(config: ModernConfig) -> Names:
    """Give the name table of a whole model: the family's name -> (our name, never stored transposed).

    Args:
        config: shape of the model.

    Source: the file layout of the transformers library. For ch04, section M.8.
    """
    norms = NORM_NAMES[getattr(config, "norms", "before")]
    model = empty_model(model_class(config), config)
    return {_their_name(ours, BLOCK_NAMES | norms): (ours, False) for ours, _ in model.named_parameters()}


def model_class(config: ModernConfig) -> type[ModernGPT]:
    """Say which class a config of these families is for.

    Args:
        config: from `modern_config`.

    Source: this course. For ch04, section M.8.
    """
    return RecentGPT if isinstance(config, RecentConfig) else ModernGPT


def _their_name(ours: str, in_blocks: dict[str, str]) -> str:
    part, kind = ours.rsplit(".", 1)  # "blocks.0.norm1", "weight"
    if part == "head":
        return HEAD
    if not part.startswith("blocks."):
        return f"{_theirs(MODEL_NAMES, part)}.{kind}"
    _, number, part = part.split(".", 2)
    return f"layers.{number}.{_theirs(in_blocks, part)}.{kind}"


def _theirs(names: dict[str, str], ours: str) -> str:
    return next(theirs for theirs, name in names.items() if name == ours)
