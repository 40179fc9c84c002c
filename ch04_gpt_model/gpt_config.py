"""The shape of a GPT as one object, with the published sizes of GPT-2 and that of the course's own model.

Reference: Radford et al. (2019), "Language models are unsupervised multitask learners", table 2. Taught in ch04,
section 4.4.
"""

import dataclasses


class Derived(int):
    """A size that nobody gave and that follows from the others, also after `dataclasses.replace` has changed those.

    Source: this course. Taught in ch04, section 4.4.
    """


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT; two models with equal configs take each other's weights.

    Args:
        vocab_size: number of different token ids, V.
        context_length: longest sequence the model can read, in tokens.
        d_model: width of the token vectors, D; a multiple of `n_heads`.
        n_heads: attention heads in each block.
        n_layers: number of blocks.
        d_ff: width inside the feed-forward part; None means 4 x d_model, whatever d_model becomes.
        dropout: probability of dropping a value while training, 0 <= dropout < 1.
        qkv_bias: give queries, keys and values a bias.
        tie_weights: let the head share the token embedding's weights.

    Raises:
        ValueError: a value is out of range.

    Source: Radford et al. (2019), section 2.3 and table 2. Taught in ch04, section 4.4.
    """

    vocab_size: int
    context_length: int
    d_model: int
    n_heads: int
    n_layers: int
    d_ff: int = None  # type: ignore[assignment]  # left open: __post_init__ puts its usual size here
    dropout: float = 0.0
    qkv_bias: bool = True
    tie_weights: bool = True

    def __post_init__(self) -> None:
        self._require_sizes("vocab_size", "context_length", "d_model", "n_heads", "n_layers")
        for name, usual in self.usual_sizes().items():
            given = getattr(self, name)
            if given in (None, usual) or isinstance(given, Derived):
                object.__setattr__(self, name, Derived(usual))  # a frozen object refuses `self.d_ff = …`
        self._require_sizes(*self.usual_sizes())
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}; choose one that does")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is not a probability below 1; give 0 <= dropout < 1")

    def _require_sizes(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}={value!r} is not a whole number >= 1")

    def usual_sizes(self) -> dict[str, int]:
        """Give the sizes that may be left open, each with what it then is."""
        return {"d_ff": 4 * self.d_model}

    @classmethod
    def gpt2(cls, size: str) -> "GPTConfig":
        """Give one of GPT-2's four sizes: "124M", "355M", "774M" or "1558M" (trained with dropout 0.1)."""
        sizes = {"124M": (768, 12, 12), "355M": (1024, 16, 24), "774M": (1280, 20, 36), "1558M": (1600, 25, 48)}
        if size not in sizes:
            raise ValueError(f"GPT-2 has no size {size!r}; choose one of {', '.join(sizes)}")
        d_model, n_heads, n_layers = sizes[size]
        return cls(50_257, 1024, d_model, n_heads, n_layers)

    @classmethod
    def story(cls) -> "GPTConfig":
        """Give the config of the course's own model, about a million parameters."""
        return cls(vocab_size=3072, context_length=320, d_model=128, n_heads=4, n_layers=4)

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values: as many as of queries (a `ModernConfig` may have fewer)."""
        return self.n_heads

    def to_dict(self) -> dict:
        """Give the config as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "GPTConfig":
        """Make a config from what `to_dict` gave; ValueError names keys that are missing or unknown."""
        known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        missing = [name for name, required in known.items() if required and name not in values]
        if unknown or missing:
            raise ValueError(f"the model config has unknown keys {unknown} and lacks {missing}; keys are {list(known)}")
        return cls(**values)
