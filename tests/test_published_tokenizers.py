"""Tokenizers of published models: the ids of the tokenizers library, the conversations of transformers."""

import functools
import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS, encode_text, pad_id_of, special_tokens_of
from ch02_text_data.streaming import stream_text
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.hugging_face import export_hugging_face
from ch05_pretraining.published_tokenizers import HABITS, PublishedTokenizer
from tests.sizes import n
from tests.small_models import tiny_model

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

TEXT = (
    "Once upon a time, a little fox named Mia lost her red ball. It's here, we'll find it, they've seen it!\n"
    "In 2024 there were 365 days and 12,345 nights; 3.14159 is PI.  Two  spaces\n\n\tand a tab.\r\n"
    "Über den Dächern: 日本語のテキスト, мир, café, naïve, 👩‍👩‍👧 and 🙂. def f(x):\n    return x / 2  # half\n"
)
HARD = [
    "", " ", "   x", "\n\n \n", "\t\ttabs", "don't I'LL we'Ve 'S", "\u00a0nbsp\u2003em", "1234567890 3.14 ½ ٣ ²",
    "日本語テキスト", "\U0001f469\u200d\U0001f467 🇳🇴", "e\u0301 \u00e9", "\x00\x01\x7f", "<|end|> typed",
    "a<|end|>b<think>", "\r\n\r\n", "  \n  a", "ﷺ", "𝒳", "\ufeffBOM", "snake_case camelCase", "http://a.b/c?d=e&f",
    "...!!!???//", " " * 300, "x" * 300, "7" * 40, "ÀÉÎ Āā ǅ",
]  # fmt: skip
ANY_TEXT = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="aé日🙂 \n\r\t1.'S\u0301\u200d<|end|>", max_size=40),
    st.lists(st.sampled_from(HARD), max_size=4).map("".join),
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ["<|start|>", "<|end|>", "<|end|>er"]
CHATML = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] | trim + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "in a row": CHATML,
    "with a system message of its own": (
        "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] %}\n"
        "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = 'Be kind, né.' %}\n{%- endif %}\n"
        "{{- '<|start|>system\n' ~ system ~ '<|end|>' }}\n{% for message in messages -%}\n    {% if loop.first -%}\n"
        "first:\n    {% endif %}\n{{ message.role | upper }}: {{ message.content.strip() }}{{ eos_token }}\n"
        "{% endfor %}\n{% if add_generation_prompt %}\nASSISTANT:\n{% endif %}\n"
    ),
    "with functions": (
        "{%- set ns = namespace(turns=0) -%}{{ strftime_now('%Y') }}{{ messages | tojson }}{{ tools is none }}"
        "{%- for message in messages -%}{%- if message.role == 'user' -%}{%- set ns.turns = ns.turns + 1 -%}"
        "{%- elif message.role != 'assistant' -%}{%- continue -%}{%- endif -%}[{{ ns.turns }}]"
        "{{ message['content'].split('</think>')[-1].lstrip('\n') }}{% generation_of is defined %}{%- endfor -%}"
    ).replace("{% generation_of is defined %}", "{{ no_such_name }}"),
}
TALK = [
    {"role": "system", "content": " Be short. "},
    {"role": "user", "content": "  What is\n\nthis? 日本 <b>&amp;</b> '\"\\ "},
    {"role": "assistant", "content": "<think>hm</think>\n\nA test."},
    {"role": "user", "content": "Why?"},
]


def published(pre: str, text: str = TEXT, vocab_size: int = 330):
    """A tokenizer of the library whose vocabulary lacks most bytes, cut as the family does that is called `pre`."""
    pieces = tokenizers.pre_tokenizers

    def split(pattern):
        cut = pieces.Split(tokenizers.Regex(pattern), "isolated")
        return [cut, pieces.ByteLevel(add_prefix_space=False, use_regex=False)]

    steps = {
        "gpt-2": [pieces.ByteLevel(add_prefix_space=False)],
        "smollm": [pieces.Digits(individual_digits=True), pieces.ByteLevel(add_prefix_space=False)],
        "qwen2": split(LLAMA3.replace("{1,3}", "")),
        "tekken": split(TEKKEN),
    }.get(pre) or split(LLAMA3)
    whole = pre not in ("gpt-2", "smollm", "qwen2")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=whole))
    made.pre_tokenizer, made.decoder = pieces.Sequence(steps), tokenizers.decoders.ByteLevel()
    made.normalizer = tokenizers.normalizers.NFC() if pre == "qwen2" else None
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIALS, show_progress=False)
    made.train_from_iterator([text], trainer)
    made.add_tokens([tokenizers.AddedToken("<think>", normalized=False, special=False)])
    made.encode_special_tokens = True
    return made


def gguf_fields(theirs, pre: str, **more) -> dict:
    """What a GGUF file says of a tokenizer of the library."""
    model = json.loads(theirs.to_str())["model"]
    ids = theirs.get_vocab(with_added_tokens=True)
    kinds = dict.fromkeys(SPECIALS, 3) | {"<think>": 4}
    tokens = sorted(ids, key=ids.get)
    named = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "token_type": [kinds.get(token, 1) for token in tokens],
        "merges": [" ".join(pair) for pair in model["merges"]], "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in named.items()} | more


def saved(theirs, folder, **files):
    """A Hugging Face folder of a tokenizer of the library, with these files beside it."""
    theirs.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def smollm():
    return published("smollm")


@pytest.fixture
def folder(smollm, tmp_path):
    names = {"bos_token": "<|start|>", "eos_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    return saved(smollm, tmp_path, tokenizer_config=names)


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize("pre", HABITS)
def test_ids_are_those_of_the_library_from_a_folder_and_from_a_gguf_file(pre, tmp_path_factory):
    theirs = published(pre)
    mine = [PublishedTokenizer.from_gguf(gguf_fields(theirs, pre)),
            PublishedTokenizer.from_folder(saved(theirs, tmp_path_factory.mktemp("hf")))]  # fmt: skip

    @settings(max_examples=n(150, 3000), deadline=None)
    @given(ANY_TEXT)
    def equal(text):
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert [each.encode(text) for each in mine] == [expected, expected]
        if "<think>" not in text:  # the library drops added tokens from what it decodes
            assert mine[0].decode(expected) == theirs.decode(expected, skip_special_tokens=False)

    for text in HARD:
        equal.hypothesis.inner_test(text)
    equal()
    assert mine[0].tokens == mine[1].tokens and mine[0].vocab_size == theirs.get_vocab_size()


def test_the_families_cut_differently(tmp_path):
    text = "It'S 12345\n\n you'LL /\n camelCase"
    cuts = {pre: json.dumps(published(pre).pre_tokenizer.pre_tokenize_str(text)) for pre in HABITS}
    assert len(set(cuts.values())) == 5 and cuts["llama3"] == cuts["llama-v3"] == cuts["llama-bpe"]


def test_bytes_that_the_vocabulary_lacks_are_left_out(smollm):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm"))
    assert b"\xc4" not in mine.tokens and mine.encode("Ā") == smollm.encode("Ā").ids
    assert mine.decode(mine.encode("aĀb")) != "aĀb"


def test_with_all_bytes_every_text_comes_back():
    everything = "".join(map(chr, range(0x250))) + TEXT
    mine = PublishedTokenizer.from_gguf(gguf_fields(published("llama-bpe", everything * 2, 3000), "llama-bpe"))

    @settings(max_examples=n(100, 2000), deadline=None)
    @given(st.text(alphabet="".join(map(chr, range(1, 0x250))), max_size=50))
    def equal(text):
        assert mine.decode(mine.encode(text)) == text

    equal()


def test_the_courses_own_tokenizer_comes_back_with_the_same_ids(tmp_path):
    ours = BPETokenizer.train([TEXT] * 3, 420, SPECIAL_TOKENS)
    export_hugging_face(tiny_model(vocab_size=ours.vocab_size), ours, tmp_path / "hf")
    mine = PublishedTokenizer.from_folder(tmp_path / "hf")
    assert mine.tokens == ours.tokens and mine.special_tokens == ours.special_tokens
    for text in HARD:
        assert mine.encode(text) == ours.encode(text) == encode_text(mine, text)
    assert mine.encode("a<|pad|>b", {"<|pad|>"}) == ours.encode("a<|pad|>b", {"<|pad|>"})
    assert mine.end_ids == (ours.special_tokens["<|endoftext|>"],)


def test_it_is_used_like_ours(smollm):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm"))
    assert special_tokens_of(mine) == {"<|start|>": 0, "<|end|>": 1, "<|end|>er": 2}
    assert list(mine.encode_iterable(["One.", "Two."])) == mine.encode("One.") + mine.encode("Two.")
    ids = mine.encode("Über 日本語, 🙂!")
    assert "".join(stream_text(ids, mine.decode)) == mine.decode(ids) == smollm.decode(ids)
    assert mine.decode([]) == "" and mine.encode("a\ud800b") == mine.encode("a\ufffdb")
    with pytest.raises(ValueError, match="found the id"):
        mine.decode([mine.vocab_size])
    with pytest.raises(ValueError, match="found a bytes"):
        mine.encode(b"a")


def test_a_special_token_is_honored_where_it_is_allowed_only(smollm):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm"))
    assert not set(mine.encode("<|start|>x<|end|>er")) & {0, 1, 2}
    assert mine.encode("<|start|>x<|end|>er", SPECIALS) == [0, *mine.encode("x"), 2]
    assert mine.encode("<|end|>er", ["<|end|>"]) == [1, *mine.encode("er")]
    with pytest.raises(ValueError, match="allowed_special"):
        mine.encode("x", ["<|no|>"])


# ---------------------------------------------------------------- where texts begin and end


@pytest.mark.parametrize(
    ("pre", "said", "expected"),
    [("smollm", None, ()), ("smollm", True, (0,)), ("llama-bpe", None, (0,)), ("llama-bpe", False, ()),
     ("tekken", None, (0,)), ("qwen2", None, ()), ("gpt-2", None, ())],
)  # fmt: skip
def test_a_gguf_file_says_what_a_text_begins_with_or_its_pattern_does(smollm, pre, said, expected):
    more = {} if said is None else {"tokenizer.ggml.add_bos_token": said}
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, pre, **more))
    assert mine.begin_ids == expected and mine.encode("One.")[:1] != [0]


@pytest.mark.parametrize("said", [None, True, False])  # transformers does not ask what stands there
@pytest.mark.parametrize("written", [True, False])
def test_a_folder_says_what_a_text_begins_with_as_transformers_reads_it(smollm, tmp_path, said, written):
    theirs = tokenizers.Tokenizer.from_str(smollm.to_str())
    if written:
        begun = tokenizers.processors.TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", 0)])
        theirs.post_processor = tokenizers.processors.Sequence([tokenizers.processors.ByteLevel(), begun])
    names = {"bos_token": "<|start|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    saved(theirs, tmp_path, tokenizer_config=names if said is None else names | {"add_bos_token": said})
    mine = PublishedTokenizer.from_folder(tmp_path)
    expected = transformers.AutoTokenizer.from_pretrained(tmp_path)("One.").input_ids
    assert [*mine.begin_ids, *mine.encode("One.")] == expected


def test_what_ends_an_answer_is_gathered_from_all_files(smollm, tmp_path):
    saved(smollm, tmp_path, generation_config={"eos_token_id": [2, 1]}, config={"eos_token_id": 99_999},
          tokenizer_config={"eos_token": {"content": "<|start|>"}})  # fmt: skip
    assert PublishedTokenizer.from_folder(tmp_path).end_ids == (2, 1, 0)
    more = {"tokenizer.ggml.eot_token_id": 2, "tokenizer.ggml.eom_token_id": 1}
    assert PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **more)).end_ids == (1, 2)


# ---------------------------------------------------------------- conversations


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("turns", [1, 2, 4])
def test_conversations_are_those_of_transformers(folder, name, beside, turns):
    if beside:  # the file wins
        (folder / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    else:
        file = folder / "tokenizer_config.json"
        templates = [{"name": "tools", "template": "{{ 1 }}"}, {"name": "default", "template": TEMPLATES[name]}]
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": templates}), encoding="utf-8")
    mine, theirs = PublishedTokenizer.from_folder(folder), transformers.AutoTokenizer.from_pretrained(folder)
    talk = TALK[-turns:]
    text = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert mine.has_chat_template and mine.chat_ids(talk) == theirs(text, add_special_tokens=False).input_ids
    assert mine.decode(mine.chat_ids(talk)) == theirs.decode(theirs(text, add_special_tokens=False).input_ids)


def test_a_gguf_file_brings_its_template(smollm):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": CHATML}))
    ids = mine.chat_ids([{"role": "user", "content": "Why?"}])
    assert ids == [0, *mine.encode("user\nWhy?"), 1, *mine.encode("\n"), 0, *mine.encode("assistant\n")]


def test_a_typed_special_token_stays_text(smollm):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": CHATML}))
    harmless = mine.chat_ids([{"role": "user", "content": "x"}])

    @settings(max_examples=n(100, 2000), deadline=None)
    @given(st.lists(st.sampled_from([*SPECIALS, "<|", "end|>", "start", "|>", "a", "\ud801", " "]), max_size=8))
    def stays_text(parts):
        typed = "".join(parts)
        ids = mine.chat_ids([{"role": "user", "content": typed}])
        assert [id_ for id_ in ids if id_ < 3] == [id_ for id_ in harmless if id_ < 3]
        shown = typed.replace("\ud801", "\ufffd").strip()
        middle = ids[1 : ids.index(1)]
        assert middle == mine.encode("user\n" + shown)

    stays_text()


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{% for message in messages %}", "Jinja2 cannot read"),
        ("<|start|>user", "leaves out what the user asks"),
        ("{{ messages | length }}", "leaves out what the user asks"),
        ("{% for message in messages %}{{ message.text }}{% endfor %}", "leaves out what the user asks"),
        ("{{ messages[0]['content'] }}{{ raise_exception('Roles must take turns') }}", "Roles must take turns"),
        ("{{ messages[0]['name'].upper() }}", "no attribute 'name'"),
        ("{{ messages[7]['content'] }}", "does not take this conversation"),
        ("{{ messages.append(1) }}", "is unsafe"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "is unsafe"),
        ("{{ messages[0]['content'] + 1 }}", "does not take this conversation"),
        ("{{ messages | no_such_filter }}", "Jinja2 cannot read"),
        ("{{ messages | length / 0 }}", "does not take this conversation"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "does not take this conversation"),
        ("{{ messages | xmlattr }}", "does not take this conversation"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "Jinja2 cannot read"),
        (5, "of the type int, not a text"),
        ({"a": 1}, "of the type dict, not a text"),
    ],
)
def test_a_template_that_fails_is_told_in_a_sentence_when_it_is_opened(smollm, template, sentence):
    with pytest.raises(ValueError, match=sentence) as told:
        PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": template}))
    assert "\n" not in str(told.value)


def test_a_template_that_is_no_text_is_refused_in_a_gguf_file(smollm):
    with pytest.raises(ValueError, match="chat template of the type list"):
        PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": ["x"]}))


def test_a_conversation_that_a_template_does_not_take_is_told_in_a_sentence(smollm):
    template = "{{ messages[0].content }}{% if messages[1] %}{{ raise_exception('One at a time.') }}{% endif %}"
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": template}))
    assert mine.chat_ids(TALK[-1:])
    with pytest.raises(ValueError, match=r"does not take this conversation \(One at a time\)"):
        mine.chat_ids(TALK)


@pytest.mark.parametrize(
    "messages",
    [[], ["hello"], [{"role": "user"}], [{"content": "x"}], [{"role": "robot", "content": "x"}],
     [{"role": "user", "content": None}], [{"role": "user", "content": "x", "name": "y"}]],
)  # fmt: skip
def test_what_is_no_conversation_is_refused(smollm, messages):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": CHATML}))
    with pytest.raises(ValueError, match="expected (a dictionary of a 'role'|at least one)"):
        mine.chat_ids(messages)


def test_without_a_template_there_is_no_conversation(smollm):
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm"))
    assert not mine.has_chat_template
    with pytest.raises(ValueError, match="without a chat template"):
        mine.chat_ids(TALK)


def test_its_files_are_read_again_by_us_and_by_transformers(smollm, tmp_path):
    more = {"tokenizer.chat_template": CHATML, "tokenizer.ggml.add_bos_token": True}
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **more))
    for name, content in mine.files(64).items():
        (tmp_path / name).write_bytes(content)
    again, theirs = PublishedTokenizer.from_folder(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.tokens == mine.tokens and again.special_tokens == mine.special_tokens
    assert again.begin_ids == mine.begin_ids == (0,) and again.end_ids == mine.end_ids == (1,)
    assert again.chat_ids(TALK) == mine.chat_ids(TALK)
    for text in HARD[:12]:
        assert again.encode(text) == mine.encode(text) == theirs(text).input_ids[1:]
    assert theirs.chat_template == CHATML and theirs.model_max_length == 64


@pytest.mark.parametrize("template", [None, CHATML])
def test_one_file_keeps_all_of_it_and_a_damaged_one_is_refused(smollm, template):
    more = {"tokenizer.chat_template": template, "tokenizer.ggml.add_bos_token": True}
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **more))
    again = PublishedTokenizer.from_json(mine.to_json().encode("utf-8"))
    assert (again.tokens, again.special_tokens, again.names) == (mine.tokens, mine.special_tokens, mine.names)
    assert (again.begin_ids, again.end_ids, again.pad_id) == (mine.begin_ids, mine.end_ids, mine.pad_id)
    assert [again.encode(text) for text in HARD] == [mine.encode(text) for text in HARD]
    assert template is None or again.chat_ids(TALK) == mine.chat_ids(TALK)
    assert again.to_json() == mine.to_json()
    for content in ("{}", mine.to_json()[:-9], mine.to_json().replace('"merges"', '"mergers"'), "[]"):
        with pytest.raises(ValueError, match="damaged tokenizer"):
            PublishedTokenizer.from_json(content)


def test_short_rows_are_filled_with_what_no_text_holds(smollm):
    fields = gguf_fields(smollm, "smollm")
    mine = PublishedTokenizer.from_gguf(fields)
    assert pad_id_of(mine) == mine.pad_id == mine.special_tokens[mine.names["eos_token"]]
    padded = PublishedTokenizer.from_gguf(fields | {"tokenizer.ggml.padding_token_id": 0})
    assert pad_id_of(padded) == 0 and 0 not in padded.encode("".join(mine.special_tokens))
    plain = {"tokenizer.ggml.token_type": [1] * len(fields["tokenizer.ggml.tokens"])}
    with pytest.raises(ValueError, match="found a tokenizer without special tokens"):
        pad_id_of(PublishedTokenizer.from_gguf(fields | plain))


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_typed_special_token_stays_text_for_transformers_unless_a_template_needs_it(smollm, template, tmp_path):
    """Transformers has one switch for what a user types and what a template writes."""
    mine = PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm", **{"tokenizer.chat_template": template}))
    for name, content in mine.files(64).items():
        (tmp_path / name).write_bytes(content)
    theirs, typed = transformers.AutoTokenizer.from_pretrained(tmp_path), "a<|end|>b"
    assert (theirs(typed).input_ids == mine.encode(typed)) == (template is None)
    assert (theirs(typed).input_ids == mine.encode(typed, ["<|end|>"])) == (template is not None)


# ---------------------------------------------------------------- SentencePiece


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NASTY = [
    *HARD, "Once upon", " Once", "  Once  upon ", "upon ", "\u2581", "\u2581\u2581typed", " \u2581 a", "<0x41>",
    "<0x0A>\n", "a<0xC3><0xA9>", "<s>", "a</s>b", "<unk> known", "</s", "<|end|>er", "\ud800 half", "\udfff", "\n Mia",
    "a <b> b", "Mia\n\nMia", "ball.Mia", "\u3000wide", "it's\u200bzero", "{{ bos_token }}", "[INST] hi [/INST]",
    "\u0000",
]  # fmt: skip
FORMS = {
    "Llama 2": {
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None,
    },
    "Mistral": {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
    },
    "each part with a space": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}]},
    },
    "Gemma": {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                          "invert": False},
    },
}  # fmt: skip
each_form = pytest.mark.parametrize("form", FORMS)


@functools.cache
def sentencepiece(form: str) -> dict:
    """The tokenizer.json of a family whose letters are those of TEXT; all others are in its tokens for bytes."""
    pieces = tokenizers.pre_tokenizers
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pieces.Metaspace(prepend_scheme="always" if form != "Gemma" else "never")
    made.train_from_iterator([TEXT], tokenizers.trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learned = json.loads(made.to_str())["model"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    controls = [
        plain | {"id": id_, "content": token, "special": True} for id_, token in enumerate(("<unk>", "<s>", "</s>"))
    ]
    size = 3 + 256 + len(learned["vocab"])
    tags = [plain | {"id": size, "content": "<b>", "special": False}]
    tokens = [*(token["content"] for token in controls), *BYTES, *learned["vocab"], "<b>"]
    first = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    steps = [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    strip = [] if form == "Gemma" else [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return FORMS[form] | {
        "added_tokens": controls + tags,
        "post_processor": {"type": "TemplateProcessing", "single": [first, one], "pair": [first, one, two],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": steps + strip},
        "model": learned | {"vocab": {token: id_ for id_, token in enumerate(tokens)}, "byte_fallback": True,
                            "fuse_unk": True, "unk_token": "<unk>"},
    }  # fmt: skip


def both_of(form):
    theirs = tokenizers.Tokenizer.from_str(json.dumps(sentencepiece(form)))
    theirs.encode_special_tokens = True
    return PublishedTokenizer(sentencepiece(form)), theirs


def with_room(form, folder, **settings):
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer.json").write_text(json.dumps(sentencepiece(form)), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(names | settings), encoding="utf-8")
    return folder


@each_form
def test_ids_of_sentencepiece_are_those_of_the_library(form):
    mine, theirs = both_of(form)
    assert len(set(NASTY)) >= 40 and mine.begin_ids == (1,)
    for text in [*NASTY, TEXT]:
        readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids = theirs.encode(readable, add_special_tokens=False).ids
        assert mine.encode(text) == ids, text
        assert mine.decode(ids) == theirs.decode(ids, skip_special_tokens=False), text
        assert form != "Gemma" or "\u2581" in text or mine.decode(ids) == readable


@each_form
def test_random_texts_of_sentencepiece_are_those_of_the_library(form):
    mine, theirs = both_of(form)

    @settings(max_examples=n(60, 1_000), deadline=None)
    @given(st.one_of(ANY_TEXT, st.lists(st.sampled_from(NASTY), max_size=4).map("".join)))
    def holds(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert mine.encode(text) == ids and mine.decode(ids) == theirs.decode(ids, skip_special_tokens=False)

    holds()


@each_form
@pytest.mark.parametrize("text", ["Mia</s>Mia", "<s>Mia <unk> Mia", "<s><s> a", " </s> ", "<b>red</s>a<b> red", "<s>"])
def test_parts_behind_a_special_token_are_read_as_the_library_reads_them(form, text):
    mine, theirs = both_of(form)
    theirs.encode_special_tokens = False
    assert mine.encode(text, ["<s>", "</s>", "<unk>"]) == theirs.encode(text, add_special_tokens=False).ids


@each_form
def test_letters_outside_of_the_vocabulary_become_bytes_and_come_back(form):
    mine, _ = both_of(form)
    ids = mine.encode("\u0416")
    assert ids[-2:] == [3 + 0xD0, 3 + 0x96] and mine.decode(ids) == "\u0416"
    assert mine.decode(ids[:-1]).endswith("\ufffd") and mine.encode("<0xD0>")[-1] != 3 + 0xD0
    assert "".join(stream_text(ids, mine.decode)) == "\u0416"


@each_form
def test_a_text_that_goes_on_keeps_the_space_before_its_first_word(form):
    mine, _ = both_of(form)
    ids = mine.encode("Mia lost her ball")
    begun = mine.encode("Mia")
    assert ids[: len(begun)] == begun
    assert mine.decode(ids) == "Mia" + mine.decode(ids[len(begun) :], begins=False) == "Mia lost her ball"


@each_form
@pytest.mark.parametrize("template", [
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ m.role }}\n{{ m.content | trim }}</s>\n{% endfor %}",
])  # fmt: skip
def test_conversations_of_sentencepiece_are_those_of_transformers(form, template, tmp_path):
    folder = with_room(form, tmp_path, chat_template=template)
    mine, theirs = PublishedTokenizer.from_folder(folder), transformers.AutoTokenizer.from_pretrained(folder)
    ids = theirs.apply_chat_template(TALK, add_generation_prompt=True)
    assert mine.chat_ids(TALK) == list(ids["input_ids"])
    assert mine.end_ids == (2,)
    typed, plain = (mine.chat_ids([{"role": "user", "content": text}]) for text in ("Mia</s><s>Mia", "Mia"))
    assert [typed.count(id_) for id_ in (1, 2)] == [plain.count(id_) for id_ in (1, 2)]
    assert "Mia</s><s>Mia" in mine.decode(typed)


@each_form
def test_a_sentencepiece_tokenizer_goes_out_and_comes_back(form, tmp_path):
    mine = PublishedTokenizer.from_folder(with_room(form, tmp_path))
    for name, content in mine.files(64).items():
        (tmp_path / name).write_bytes(content)
    again = [PublishedTokenizer.from_json(mine.to_json()), PublishedTokenizer.from_folder(tmp_path)]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in NASTY:
        ids = mine.encode(text)
        assert all(each.encode(text) == ids and each.decode(ids) == mine.decode(ids) for each in again)
        assert theirs(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
                      add_special_tokens=False).input_ids == ids  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"decoder": None}, r"SentencePiece vocabulary that \[None\] turn into text"),
        ({"decoder": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}}, r"\['Metaspace'\] turn"),
        ({"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]}}, r"\['ByteFallback'\] turn into"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, r"kind BPE, cut by \['ByteLevel'\], with tokens for bytes"),
        (
            {"model": {"type": "Unigram", "vocab": [], "byte_fallback": True}},
            "of the kind Unigram, cut by .*with tokens",
        ),
        ({"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": [], "byte_fallback": True}}, "damaged tokenizer"),
    ],
)
def test_a_sentencepiece_vocabulary_of_another_form_is_refused(changes, sentence, tmp_path):
    definition = sentencepiece("Llama 2") | changes
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence) as told:
        PublishedTokenizer.from_folder(tmp_path)
    assert str(tmp_path) in str(told.value) and "\n" not in str(told.value)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "llama"}, "'llama', which is SentencePiece"),
        ({"model": "bert"}, "tokenizer.ggml.model='bert'"),
        ({"model": None}, "there is none"),
        ({"pre": "default"}, "tokenizer.ggml.pre='default'"),
        ({"pre": None}, "tokenizer.ggml.pre=None"),
        ({"tokens": None}, "no whole list tokenizer.ggml.tokens"),
        ({"merges": None}, "no whole list tokenizer.ggml.merges"),
        ({"merges": ["Q QQ"]}, "damaged tokenizer"),
        ({"token_type": [1]}, "no whole list tokenizer.ggml.token_type"),
        ({"bos_token_id": "x"}, "damaged tokenizer"),
    ],
)
def test_a_vocabulary_of_another_kind_in_a_gguf_file_is_refused(smollm, changes, sentence):
    fields = gguf_fields(smollm, "smollm") | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises(ValueError, match=sentence) as told:
        PublishedTokenizer.from_gguf({key: value for key, value in fields.items() if value is not None})
    assert "\n" not in str(told.value)


def without_bytes(definition):
    definition["pre_tokenizer"] = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": False}


def with_fallback(definition):
    definition["model"]["byte_fallback"] = True


def with_greedy_special(definition):
    definition["added_tokens"][1]["rstrip"] = True


def with_many_specials(definition):
    definition["added_tokens"] += [definition["added_tokens"][0] | {"content": f"<{i}>"} for i in range(2048)]


def with_another_id(definition, id_):
    definition["added_tokens"] += [definition["added_tokens"][0] | {"content": "<|new|>", "id": id_}]


def with_a_far_id(definition):
    definition["model"]["vocab"]["zzzz"] = 2**31 - 5


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda definition: with_another_id(definition, 60_000), r"'<\|new\|>' has the id 60000"),
        (lambda definition: with_another_id(definition, 40), r"'<\|new\|>' has the id 40"),
        (with_a_far_id, "the id 2147483643; expected ids below"),
        (without_bytes, r"kind BPE, cut by \['Metaspace'\], no tokens for bytes; expected byte-level"),
        (with_fallback, "cut by .*'ByteLevel'.*, with tokens for bytes; expected byte-level"),
        (with_greedy_special, r"'<\|end\|>', which takes spaces"),
        (with_many_specials, "found 2051 special tokens"),
        (lambda definition: definition.update(model={"type": "Unigram"}), "of the kind Unigram"),
        (lambda definition: definition.update(model={}), "of the kind None"),
        (lambda definition: definition.update(added_tokens=[1]), "damaged tokenizer"),
        (lambda definition: definition["model"].update(vocab={"a": "b"}), "damaged tokenizer"),
    ],
)
def test_a_vocabulary_of_another_kind_in_a_folder_is_refused(folder, spoil, sentence):
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    spoil(definition)
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence) as told:
        PublishedTokenizer.from_folder(folder)
    assert str(folder) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("tokenizer.json", None, "no tokenizer.json; expected"),
        ("tokenizer.json", b"{", "a damaged tokenizer.json"),
        ("tokenizer.json", b"[1]", "a list in tokenizer.json"),
        ("tokenizer_config.json", b"\xff", "a damaged tokenizer_config.json"),
        ("generation_config.json", b"1", "an? int in generation_config.json"),
        ("config.json", b'{"eos_token_id": "x"}', "damaged tokenizer"),
        ("tokenizer_config.json", b'{"chat_template": 5}', "chat template of the type int"),
        ("tokenizer_config.json", b'{"chat_template": {"a": 1}}', "chat template of the type dict"),
        (
            "tokenizer_config.json",
            b'{"chat_template": [{"name": "default", "template": 5}]}',
            "chat template of the type int",
        ),
    ],
)
def test_a_damaged_file_is_named(folder, name, content, sentence):
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        PublishedTokenizer.from_folder(folder)


def test_a_sentencepiece_file_is_named(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e")
    with pytest.raises(ValueError, match="found tokenizer.model, SentencePiece's own file, and no tokenizer.json"):
        PublishedTokenizer.from_folder(tmp_path)


def test_an_end_that_the_vocabulary_lacks_is_left_out(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [-1, 1, 99999]}', encoding="utf-8")
    assert PublishedTokenizer.from_folder(folder).end_ids == (1,)


def test_a_missing_package_is_told_with_the_command_that_installs_it(smollm, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match="tokenizers is not installed.*python course.py fetch smollm2"):
        PublishedTokenizer.from_gguf(gguf_fields(smollm, "smollm"))


def test_the_packages_of_published_models_are_those_of_the_tests():
    root = Path(__file__).resolve().parent.parent
    wanted = (root / "shared" / "requirements-models.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w-]+==\S+)  # \w", wanted, re.MULTILINE)
    tested = (root / "tests" / "requirements-test.txt").read_text(encoding="utf-8").split()
    assert len(pins) == 2 and set(pins) <= set(tested)
