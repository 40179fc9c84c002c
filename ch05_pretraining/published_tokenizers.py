"""Tokenizers of published models: BPE like ours, with another pattern, other ids and other special tokens.

A model reads nothing but its own ids, so its tokenizer comes with it: as `tokenizer.json` in a Hugging Face folder, or
inside a GGUF file. Both are put into the `tokenizers` library's class, and around it stand the methods of
`BPETokenizer`, so that the course's functions do not see a difference. Which vocabularies are read, byte-level ones and
SentencePiece's, and what their tokens stand for, is in `vocabularies.py`.

A GGUF file names its pattern only (`tokenizer.ggml.pre`); the patterns are those of the published tokenizer.json files.
Left out: SentencePiece vocabularies in GGUF files, which are numbered by scores and not by merges.
References: Radford et al. (2019), section 2.2; the tokenizers library; llama.cpp, for the names of patterns.
"""

import importlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ch02_text_data.bpe import GPT2_PATTERN, Texts, cut_at_specials
from ch02_text_data.required_input import require_id, require_text
from ch05_pretraining.chat_templates import ChatTemplate, Message, require_messages
from ch05_pretraining.vocabularies import bytes_of_tokens, of_later_parts, require_known_kind, takes_first_space

__all__ = ["PublishedTokenizer"]

LATER_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN_PATTERN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
SPECIALS_AT_MOST = 2048  # half characters, one of which stands for each while a template is filled
SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


class Habits(NamedTuple):
    """How a family of tokenizers cuts a text: `tokenizer.ggml.pre` names it.

    Args:
        steps: pre-tokenizers of the tokenizers library.
        whole: take a piece that is a token as it stands, without its merges.
        begins: texts begin with the token `bos_token`, unless the file says otherwise.
        normal: put letters and their accents together first (Unicode's form NFC).

    Source: the published tokenizer.json files.
    """

    steps: tuple[dict, ...]
    whole: bool = False
    begins: bool = False
    normal: bool = False


GPT2 = Habits((_split(GPT2_PATTERN),))
SMOLLM = Habits(({"type": "Digits", "individual_digits": True}, _split(GPT2_PATTERN)))
LLAMA3 = Habits((_split(LATER_PATTERN.replace("DIGITS", r"\p{N}{1,3}")),), whole=True, begins=True)
QWEN2 = Habits((_split(LATER_PATTERN.replace("DIGITS", r"\p{N}")),), normal=True)
TEKKEN = Habits((_split(TEKKEN_PATTERN),), whole=True, begins=True)
HABITS = {"gpt-2": GPT2, "smollm": SMOLLM, "llama-bpe": LLAMA3, "llama3": LLAMA3, "llama-v3": LLAMA3, "qwen2": QWEN2,
          "tekken": TEKKEN}  # fmt: skip


GGUF_NAMES = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}
GGUF_ENDS = [f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom")]  # of a text, a turn, a message
UNKNOWN, CONTROL, OF_THE_USER = 2, 3, 4  # kinds of tokens in tokenizer.ggml.token_type
FORMAT = "published tokenizer, version 1"


class PublishedTokenizer:
    """The tokenizer of a published model, with the methods of `BPETokenizer`; see `from_folder` and `from_gguf`.

    Bytes that are neither in a merged token nor in the vocabulary by themselves are left out, as the tokenizers library
    does.

    Args:
        definition: content of a `tokenizer.json`.
        names: what the chat template calls the special tokens: {"bos_token": "<s>", …}.
        end_ids: ids that end an answer; those that the vocabulary lacks are left out.
        chat_template: text of the template, if there is one.

    Attributes:
        begin_ids: ids that stand before a text that is to be continued; `encode` and `chat_ids` add none.
        special_tokens: control tokens -> ids; typed in a text, they are ordinary characters.
        tokens: the bytes of each token, in the order of the ids; nothing for an id that is not used.

    Raises:
        ValueError: the definition is damaged or of a kind that is not read, the template cannot be used, or the
            package tokenizers is not installed.

    Source: the tokenizers library.
    """

    def __init__(
        self,
        definition: dict,
        *,
        names: Mapping[str, str] | None = None,
        end_ids: Iterable[int] = (),
        chat_template: str | None = None,
    ):
        require_known_kind(definition)
        self._library = self._of_later_parts = _build(definition)
        self.tokens = bytes_of_tokens(self._library.get_vocab(with_added_tokens=True), definition)
        if later := of_later_parts(json.loads(self._library.to_str())):
            self._of_later_parts = _build(later)
        self._takes_space = takes_first_space(definition)
        self.special_tokens = _controls(definition)
        self.names = dict(names or {})
        self.begin_ids = tuple(self.special_tokens[token] for token in _first_tokens(definition))
        self.end_ids = tuple(dict.fromkeys(id_ for id_ in end_ids if 0 <= id_ < self.vocab_size))
        self.chat_template = chat_template
        self._template = None if chat_template is None else ChatTemplate(chat_template, self.names)
        self._typed = {0xD800 + n: token for n, token in enumerate(self.special_tokens)}  # half a character -> token

    @classmethod
    def from_folder(cls, folder: str | Path) -> "PublishedTokenizer":
        """Read the tokenizer of a Hugging Face folder.

        Args:
            folder: holds `tokenizer.json`, and where there are such `tokenizer_config.json`, `chat_template.jinja`,
                `generation_config.json` and `config.json`.

        Raises:
            ValueError: `tokenizer.json` is missing, or a file is damaged or of another kind.
        """
        try:
            return cls(**_read_folder(Path(folder)))
        except ValueError as error:
            raise ValueError(f"{error}; the folder is {folder}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"found a damaged tokenizer in {folder} ({error!r}); fetch its files again") from error

    @classmethod
    def from_gguf(cls, fields: Mapping[str, Any]) -> "PublishedTokenizer":
        """Make the tokenizer that the fields of a GGUF file describe.

        Args:
            fields: `tokenizer.ggml.tokens`, `.merges`, `.token_type`, `.model`, `.pre` and so on.

        Raises:
            ValueError: a field is missing or damaged, the vocabulary is not BPE, or the pattern is unknown.
        """
        try:
            return cls(**_read_fields(fields))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"found a damaged tokenizer ({error!r}); fetch the file again") from error

    @classmethod
    def from_json(cls, content: str | bytes) -> "PublishedTokenizer":
        """Read what `to_json` wrote.

        Args:
            content: of the file.

        Raises:
            ValueError: the content is damaged or of another kind.
        """
        try:
            kept = json.loads(content)
            return cls(**{key: kept[key] for key in ("definition", "names", "end_ids", "chat_template")})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"found a damaged tokenizer ({error!r}): restore its file, or make it again") from error

    def to_json(self) -> str:
        """Write the tokenizer as the text of one JSON file, for a model of the course that reads its ids."""
        definition = json.loads(self._library.to_str())
        kept = {"definition": definition, "names": self.names, "end_ids": self.end_ids}
        return json.dumps({"format": FORMAT, **kept, "chat_template": self.chat_template}, ensure_ascii=False) + "\n"

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special tokens' included."""
        return len(self.tokens)

    @property
    def pad_id(self) -> int:
        """The id that fills up short rows: the model's own, or else what ends a text; no text that is read holds it.

        Raises:
            ValueError: the vocabulary has no special token.
        """
        named = [self.special_tokens.get(self.names.get(name, "")) for name in ("pad_token", "eos_token")]
        fitting = [id_ for id_ in (*named, *self.special_tokens.values()) if id_ is not None]
        if not fitting:
            raise ValueError("found a tokenizer without special tokens, and short rows need one: take another model")
        return fitting[0]

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any string; a lone surrogate is read as U+FFFD.
            allowed_special: special tokens to honor in the text; typed in a text, all others are ordinary characters.

        Raises:
            ValueError: `text` is no string, or an allowed special token does not exist.
        """
        return self._ids(cut_at_specials(require_text(text), allowed_special, self.special_tokens))

    def encode_iterable(self, texts: Texts, allowed_special: Collection[str] = frozenset()) -> Iterator[int]:
        """Yield the ids of many texts one after another, each text as `encode` reads it by itself."""
        for text in [texts] if isinstance(texts, str) else texts:
            yield from self.encode(text, allowed_special)

    def decode(self, ids: Iterable[int], begins: bool = True) -> str:
        """Turn ids into text; bytes that are no UTF-8, such as half a character, become U+FFFD.

        Args:
            ids: of a text.
            begins: a text begins with them; where reading puts a space in front, it is taken away again. False keeps
                that space, for ids that go on with another text.

        Raises:
            ValueError: an id is negative or not in the vocabulary.
        """
        pieces = [self.tokens[require_id(id_, self.vocab_size)] for id_ in ids]
        text = b"".join(pieces).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if begins and self._takes_space else text

    @property
    def has_chat_template(self) -> bool:
        """Whether the model was trained to answer, and says in which form it is asked."""
        return self.chat_template is not None

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """Turn a conversation into ids, up to where the assistant's next answer begins.

        A special token that somebody typed in a message stays text and controls nothing.

        Args:
            messages: dictionaries of a "role" (system, user, assistant) and a "content".

        Raises:
            ValueError: there is no template, or it does not take this conversation.
        """
        if self._template is None:
            raise ValueError("found a model without a chat template; let it continue a text, or take one that answers")
        hidden = [message | {"content": self._hide(message["content"])} for message in require_messages(messages)]
        parts = cut_at_specials(self._template.render(hidden), self.special_tokens, self.special_tokens)
        return self._ids([part.translate(self._typed) for part in parts])

    def files(self, context_length: int) -> dict[str, bytes]:
        """Give the files of a Hugging Face folder with this tokenizer: name -> content.

        Transformers has one switch for the special tokens that a user types and those that a chat template writes, so a
        typed one stays text there only where there is no template.

        Args:
            context_length: most tokens that the model reads.
        """
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context_length,
            "split_special_tokens": not self.has_chat_template,
            **self.names,
        }
        template = {} if self.chat_template is None else {"chat_template.jinja": self.chat_template.encode("utf-8")}
        return {
            "tokenizer.json": self._library.to_str(pretty=True).encode("utf-8"),
            "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False).encode("utf-8"),
            **template,
        }

    def _hide(self, text: str) -> str:
        """Let half a character, which no text holds, stand for each special token that somebody typed."""
        signs = {token: chr(sign) for sign, token in self._typed.items()}
        parts = cut_at_specials(require_text(text), self.special_tokens, self.special_tokens)
        return "".join(signs.get(part, part) for part in parts)

    def _ids(self, parts: list[str]) -> list[int]:
        """The ids of ordinary text, special token, ordinary text and so on."""
        ids: list[int] = []
        for number, part in enumerate(parts):
            library = self._of_later_parts if number else self._library
            plain = number % 2 == 0
            ids += library.encode(part, add_special_tokens=False).ids if plain else [self.special_tokens[part]]
        return ids


# ---------------------------------------------------------------- what the library is given


def needed_package(name: str) -> ModuleType:
    """Import a package that only published models need, or say how to get it.

    Args:
        name: "tokenizers" or "gguf".

    Raises:
        ValueError: the package is not installed.

    Source: this course.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"the package {name} is not installed, and published models need it: run `python course.py fetch smollm2`, "
            "which installs shared/requirements-models.txt"
        ) from error


def _build(definition: dict) -> Any:
    """The library's tokenizer, which reads special tokens as text and neither cuts nor fills up what it is given."""
    library = needed_package("tokenizers")
    try:
        built = library.Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the library raises nothing more exact
        raise ValueError(f"found a damaged tokenizer ({error}); fetch its file again") from error
    built.no_truncation()
    built.no_padding()
    built.encode_special_tokens = True
    return built


def _controls(definition: dict) -> dict[str, int]:
    specials = {token["content"]: token["id"] for token in definition.get("added_tokens", ()) if token["special"]}
    if len(specials) > SPECIALS_AT_MOST:
        raise ValueError(
            f"found {len(specials)} special tokens; expected at most {SPECIALS_AT_MOST}: take another model"
        )
    return specials


# ---------------------------------------------------------------- a Hugging Face folder


def _read_folder(folder: Path) -> dict[str, Any]:
    """What `PublishedTokenizer` is made of, as the folder's files say it."""
    if not (folder / "tokenizer.json").is_file():
        other = (folder / "tokenizer.model").is_file()
        found = "tokenizer.model, SentencePiece's own file, and " if other else ""
        raise ValueError(f"found {found}no tokenizer.json; expected one: get a copy of the model that has it")
    definition = _read_json(folder / "tokenizer.json")
    settings = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    names = {name: _content(settings[name]) for name in SPECIAL_NAMES if settings.get(name)}
    file = folder / "chat_template.jinja"
    return {
        "definition": definition,
        "names": names,
        "end_ids": _end_ids(folder, names.get("eos_token"), definition),
        "chat_template": file.read_text("utf-8") if file.is_file() else _default(settings.get("chat_template")),
    }


def _end_ids(folder: Path, end: str | None, definition: dict) -> list[int]:
    """What a generation may end with, what the model ends a text with, and what the tokenizer calls the end."""
    found: list[Any] = [
        _read_json(folder / name).get("eos_token_id") for name in ("generation_config.json", "config.json")
    ]
    ends = [id_ for ids in found if ids is not None for id_ in (ids if isinstance(ids, list) else [ids])]
    return [*ends, *(id_ for token, id_ in _controls(definition).items() if token == end)]


def _read_json(file: Path) -> dict:
    """The content of a file, nothing where there is none."""
    try:
        content = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"found a damaged {file.name} ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"found a {type(content).__name__} in {file.name}; expected keys with values")
    return content


def _content(token: str | dict) -> str:
    return token if isinstance(token, str) else token["content"]


def _default(templates: str | list[dict] | None) -> str | None:
    """The template for ordinary conversations, where a folder has several."""
    if isinstance(templates, list):
        return next((each["template"] for each in templates if each["name"] == "default"), None)
    return templates


def _first_tokens(definition: dict) -> list[str]:
    """The special tokens that the library puts before every text, as `post_processor` alone says."""
    outer = definition.get("post_processor") or {}
    templates = [each["single"] for each in (outer, *outer.get("processors", ())) if "single" in each]
    return [
        item["SpecialToken"]["id"]
        for single in templates
        for item in takewhile(lambda part: "SpecialToken" in part, single)
    ]


# ---------------------------------------------------------------- a GGUF file


def _read_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What `PublishedTokenizer` is made of, as a GGUF file's fields say it."""
    habits, tokens = _habits(fields), _required(fields, "tokens")
    names = {
        f"{name}_token": tokens[id_]
        for name, key in GGUF_NAMES.items()
        if 0 <= (id_ := fields.get(f"tokenizer.ggml.{key}_token_id", -1)) < len(tokens)
    }
    definition = {
        "added_tokens": _added_tokens(tokens, _required(fields, "token_type")),
        "normalizer": {"type": "NFC"} if habits.normal else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*habits.steps, BYTE_LEVEL]},
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "vocab": {token: id_ for id_, token in enumerate(tokens)},
            "merges": _required(fields, "merges"),
            "ignore_merges": habits.whole,
        },
    }
    if fields.get("tokenizer.ggml.add_bos_token", habits.begins) and "bos_token" in names:
        definition["post_processor"] = _beginning(names["bos_token"], tokens)
    return {
        "definition": definition,
        "names": names,
        "end_ids": [fields[key] for key in GGUF_ENDS if key in fields],
        "chat_template": fields.get("tokenizer.chat_template"),
    }


def _beginning(token: str, tokens: list[str]) -> dict:
    """The library's way to put a token before every text."""
    first, one, two = (
        {"SpecialToken": {"id": token, "type_id": 0}},
        *({"Sequence": {"id": name, "type_id": 0}} for name in "AB"),
    )
    known = {token: {"id": token, "ids": [tokens.index(token)], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": [first, one], "pair": [first, one, two], "special_tokens": known}


def _habits(fields: Mapping[str, Any]) -> Habits:
    if (kind := fields.get("tokenizer.ggml.model")) != "gpt2":
        known = {"llama": ", which is SentencePiece", None: " (there is none)"}.get(kind, "")
        raise ValueError(
            f"found tokenizer.ggml.model={kind!r}{known}; expected 'gpt2', which is byte-level BPE: take a model with "
            "such a vocabulary, as Llama 3, Qwen and SmolLM2 have"
        )
    if (name := fields.get("tokenizer.ggml.pre")) not in HABITS:
        raise ValueError(
            f"found tokenizer.ggml.pre={name!r}; expected one of {', '.join(HABITS)}, whose patterns are known here: "
            "take another file"
        )
    return HABITS[name]


def _required(fields: Mapping[str, Any], name: str) -> list:
    content, tokens = fields.get(f"tokenizer.ggml.{name}"), fields.get("tokenizer.ggml.tokens")
    if (
        not isinstance(content, list)
        or not isinstance(tokens, list)
        or (name != "merges" and len(content) != len(tokens))
    ):
        raise ValueError(f"found no whole list tokenizer.ggml.{name}; expected one for the whole vocabulary: fetch the "
                         "file again")  # fmt: skip
    return content


def _added_tokens(tokens: list[str], kinds: list[int]) -> list[dict]:
    return [
        {"id": id_, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": kind in (UNKNOWN, CONTROL)}
        for id_, (token, kind) in enumerate(zip(tokens, kinds))
        if kind in (UNKNOWN, CONTROL, OF_THE_USER)
    ]  # fmt: skip
