"""The tasks for fine-tuning: records are right, splits are clean, and no simple trick solves them."""

import re
from collections import Counter

import pytest

from data.by_hand import load_messages_by_hand, load_questions_by_hand
from data.loaders import load_instructions, load_messages, load_preferences, load_stories
from data.paths import DATA_DIR
from data.story_world.engine import load_tables
from data.story_world.grammar import PRON
from data.story_world.instruction_task import INSTRUCTION_KINDS, INSTRUCTION_SPLITS, write_instructions
from data.story_world.marking import Instruction, Question, mark
from data.story_world.message_task import MESSAGE_LABELS
from data.story_world.preference_task import CORRUPTIONS, describe, reward_parts, story_reward
from data.story_world.tasks import PortableRandom, fill, split_of, templates, words
from data.story_world.word_questions import TALK_KINDS
from tests import message_baselines
from tests.sizes import n

SEX = load_tables().sexes  # name -> sex
TASK_SPLITS = ("train", "validation", "test")


def _plain(text):
    return " ".join(re.findall(r"\w+", text.lower()))


# ------------------------------------------------------------------------------------------------------------ splits
@pytest.mark.parametrize(
    "load, key",
    [
        (load_messages, lambda r: r.text),
        (load_instructions, lambda r: " ".join([*(part for turn in r.history for part in turn), r.prompt])),
        (load_preferences, lambda r: r.chosen),
    ],
)
def test_no_record_is_there_twice_and_none_is_in_two_splits(load, key):
    """Of what one says in a talk there are few wordings: these may come twice, but in one split only."""
    texts = [(_plain(key(record)), split, record) for split in TASK_SPLITS for record in load(split)]
    splits_of: dict[str, set[str]] = {}
    for text, split, _ in texts:
        splits_of.setdefault(text, set()).add(split)
    assert not [text for text, splits in splits_of.items() if len(splits) > 1][:3]
    seen = Counter(text for text, _, record in texts if getattr(record, "kind", "") not in TALK_KINDS)
    assert not [text for text, count in seen.items() if count > 1][:3]


@pytest.mark.parametrize(
    "load, sizes",
    [
        (load_messages, (4_000, 500, 1_000)),
        (load_instructions, (12_000, 580, 1_160)),
        (load_preferences, (4_000, 400, 800)),
    ],
)
def test_every_split_has_its_size(load, sizes):
    assert tuple(len(load(split)) for split in TASK_SPLITS) == sizes


def test_no_request_is_about_a_hero_and_thing_of_another_split():
    def pairs(split):
        prompts = [pair.prompt for pair in load_preferences(split)]
        return {(prompt.split(" about ")[1].split()[0], _noun(prompt)) for prompt in prompts}

    assert not pairs("train") & pairs("validation") and not pairs("train") & pairs("test")


def _noun(prompt):
    phrase = re.search(r" and an? (.+?)(?: that ends well)?\.", prompt).group(1)
    return max((thing.noun for thing in words().things if f" {phrase}".endswith(f" {thing.noun}")), key=len)


def test_every_word_of_the_held_out_splits_is_in_training():
    for load, text in (
        (load_messages, lambda r: r.text),
        (load_preferences, lambda r: f"{r.prompt} {r.chosen}"),
    ):
        train = {word for record in load("train") for word in _plain(text(record)).split()}
        for split in ("validation", "test"):
            assert not {word for record in load(split) for word in _plain(text(record)).split()} - train


def test_the_split_of_a_combination_never_changes():
    assert all(split_of(*key) == split for split, key in KNOWN_SPLITS.items())
    shares = Counter(split_of("x", str(i)) for i in range(4_000))
    assert 0.06 < shares["validation"] / 4_000 < 0.10 and 0.14 < shares["test"] / 4_000 < 0.18


KNOWN_SPLITS = {"test": ("who", "Anna", "Tom"), "train": ("who", "Anna", "Ben")}


# ---------------------------------------------------------------------------------------------------------- messages
@pytest.mark.parametrize("split", TASK_SPLITS)
def test_there_are_as_many_messages_of_each_label(split):
    counts = Counter(message.label for message in load_messages(split))
    assert set(counts) == set(MESSAGE_LABELS) and len(set(counts.values())) == 1


def test_each_label_has_many_wordings():
    rules = templates("messages")
    for label in MESSAGE_LABELS:
        assert len(rules[f"own.{label}"]) >= 30 and len(rules[f"told.{label}"]) >= 20
    lines = [line for name in rules if name.startswith(("own.", "told.")) for line in rules[name]]
    assert len(set(lines)) == len(lines), "a wording stands under two rules"


def test_a_message_has_exactly_one_act_of_its_writer():
    """Outside quotation marks, the fixed words of exactly one label's own wordings are found, that of the label."""
    found = 0
    for message in load_messages("test"):
        bare = re.sub(r'"[^"]*"', ".", message.text)
        labels = {label for label in MESSAGE_LABELS for rx in OWN[label] if rx.search(bare)}
        assert labels == {message.label}, message
        found += 1
    assert found == 1_000


def _as_pattern(template):
    """A pattern that finds a template in a message, whatever its slots were filled with."""
    pattern = ""
    for piece in re.split(r"(\{\w+\}|\[[^\]]*\])", template):
        if piece.startswith("{"):
            pattern = re.sub(r"\b([Aa])\\ $", r"\1n?\\ ", pattern) + r"[\w -]+?"
        elif piece.startswith("["):
            pattern += f"(?:{piece[1:-1]})"
        else:
            pattern += re.escape(piece)
    return re.compile(r"(?:^|[.!?,] )" + pattern)


OWN = {label: [_as_pattern(line) for line in templates("messages")[f"own.{label}"]] for label in MESSAGE_LABELS}


def _figure_in_readme(rule):
    text = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    return float(re.search(rf"\| {rule} \| ([\d.]+) % \|", text).group(1)) / 100


def test_a_bag_of_words_is_not_enough():
    pytest.importorskip("sklearn")
    share = message_baselines.bag_of_words(1)
    assert 0.75 < share < 0.90
    assert share == pytest.approx(_figure_in_readme("logistic regression on words"), abs=0.01)


def test_counting_cue_words_is_far_from_enough():
    test = load_messages("test")
    share = sum(message_baselines.keyword_rule(message.text) == message.label for message in test) / len(test)
    assert 0.25 < share < 0.60
    assert share == pytest.approx(_figure_in_readme("count cue words"), abs=0.0006)


# ------------------------------------------------------------------------------------------------------ instructions
def test_every_kind_has_its_share_of_the_instructions():
    assert len(INSTRUCTION_KINDS) >= 25
    for split in INSTRUCTION_SPLITS:
        counts = Counter(record.kind for record in load_instructions(split))
        assert set(counts) == set(INSTRUCTION_KINDS), split
        assert split == "train" or len(set(counts.values())) == 1, split


def test_every_answer_of_ours_is_accepted():
    for split in INSTRUCTION_SPLITS[1:]:
        assert not [record for record in load_instructions(split) if not mark(record, record.response)]


def test_capital_letters_and_closing_signs_do_not_matter():
    record = next(record for record in load_instructions("test") if record.kind == "plural")
    assert mark(record, f"  {record.response.upper()} !!\n") and mark(record, record.response.rstrip("."))


@pytest.mark.parametrize(
    "kind", sorted({*INSTRUCTION_KINDS} - {"greeting", "thanks", "you", "can", "unknown", "finish"})
)
def test_the_answer_to_another_question_is_refused(kind):
    records = [record for record in load_instructions("test") if record.kind == kind]
    answers = {record.response for record in records}
    wrong = [(one, answer) for one in records for answer in answers if not says_the_same(one, answer)]
    assert len(wrong) >= 20
    assert not [pair for pair in wrong if mark(*pair)][:3]


def says_the_same(record, answer):
    """Whether an answer to another question happens to be right: it has the same words that matter."""
    words_of = set(_plain(answer).split())
    rights = (*record.accepted, *record.wanted, *([" ".join(record.told)] if record.told else []))
    return any(set(_plain(right).split()) <= words_of for right in rights)


@pytest.mark.parametrize("kind", ["greeting", "thanks", "you", "can", "unknown"])
def test_what_one_says_in_a_talk_fits_its_own_kind_only(kind):
    records = {name: next(r for r in load_instructions("test") if r.kind == name) for name in INSTRUCTION_KINDS}
    fits = [
        name for name in ("greeting", "thanks", "you", "can", "unknown") if mark(records[kind], records[name].response)
    ]
    assert kind in fits and len(fits) <= 2  # "you can ask me" stands in two of our answers


def test_a_story_is_right_when_it_holds_what_was_asked_and_is_coherent():
    records = [record for record in load_instructions("test") if record.told]
    assert len(records) >= 20
    for record in records[:20]:
        assert not mark(record, record.response.replace(record.told[0].split()[0], "Nobody"))
        assert not mark(record, record.response + " " + record.response)
        assert not mark(record, "")
    for record in [record for record in load_instructions("test") if record.opening][:20]:
        assert not mark(record, "!") and not mark(record, record.response.rstrip('.!?"')[:-3])


def test_a_right_word_in_another_sentence_is_right_and_a_rival_beside_it_is_not():
    record = next(record for record in load_instructions("test") if record.kind == "animal")
    animal, rival = record.wanted[0], record.rivals[0]
    assert mark(record, f"It was a {animal}, I think!") and mark(record, animal.upper())
    assert not mark(record, f"a {animal} or a {rival}") and not mark(record, f"I do not know, a {animal}?")
    assert not mark(record, f"{animal}ish") and not mark(record, f"a {animal} " * 40)


@pytest.mark.parametrize("answer", ["", " ", "!", "true or false", "I do not know", "yes no", "It was"])
def test_an_answer_that_says_nothing_is_refused(answer):
    records = [record for record in load_instructions("test") if record.kind != "unknown" or "know" not in answer]
    assert not [record for record in records if mark(record, answer)]


def test_a_right_word_in_any_short_sentence_is_right_and_a_rival_beside_it_is_not():
    record = Question("who", "Who?", wanted=("Karl", "the owl"), rivals=("Ada", "I do not know"))
    assert all(mark(record, answer) for answer in ("Karl", "karl!", "I think it was Karl.", "It is the owl, of course"))
    assert not any(mark(record, answer) for answer in ("", "Ada", "Karl or Ada", "Karla", "I do not know. Karl?"))
    assert not mark(record, "Karl " + "and so on " * 20)  # whoever says everything says nothing
    count = Question("count", "How many?", wanted=("two", "2"), rivals=("one", "three"))
    assert mark(count, "One: hat. Two: cap. There are two.") and not mark(count, "One: hat. Two: cap. There are three.")
    assert mark(count, "One: hat. Two: cap.") and not mark(count, "One: hat.") and not mark(count, "Two or three.")


def test_a_story_on_request_holds_what_was_asked_and_is_coherent():
    story = load_stories("validation", n=1)[0]
    hero = story.facts["hero"]
    record = Question("tell", "Tell me a story.", told=(hero["name"], hero["kind"]))
    assert mark(record, story.text)
    assert not mark(record, story.text.replace(hero["name"], "Somebody")) and not mark(record, "")
    assert not mark(record, story.text[: len(story.text) // 2 - 3])
    assert mark(record._replace(kind="finish"), f"{hero['name']} was a {hero['kind']}.")


def test_questions_by_hand_are_marked_by_what_a_reader_would_say():
    questions = load_questions_by_hand()
    assert len(questions) == 100 and len({record.kind for record in questions}) >= 25
    for record in questions:
        assert record.wanted or record.told, record
        assert not mark(record, "") and not any(mark(record, wrong) for wrong in record.rivals), record
        assert all(mark(record, right) for right in record.wanted), record


def test_messages_by_hand_have_fifteen_of_each_label():
    assert Counter(message.label for message in load_messages_by_hand()) == dict.fromkeys(MESSAGE_LABELS, 15)


def test_nothing_that_was_written_by_hand_is_trained_on():
    """Of prompts of three words, such as a greeting, everybody writes the same ones."""
    trained = {_plain(record.prompt) for record in load_instructions("train")}
    longer = [record for record in load_questions_by_hand() if len(record.prompt.split()) > 3]
    assert not [record for record in longer if _plain(record.prompt) in trained]
    messages = {_plain(message.text) for message in load_messages("train")}
    assert not [message for message in load_messages_by_hand() if _plain(message.text) in messages]


@pytest.mark.parametrize(
    "answer, accepted",
    [
        ("5", "-5"), ("5", "£5"), ("$5", "£5"), ("5", "5%"), ("15", "1.5"), ("15", "1,5"), ("1,5", "1.5"), ("5", ".5"),
        ("330", "3:30"), ("3 > 5", "3 < 5"), ("3 5", "3 : 5"), ("x2", "x²"), ("23", "2^3"), ("C#", "C++"), ("c", "C#"),
        ("(1, 2)", "[1, 2]"), ("NET", ".NET"), ("print(a)", 'print("a")'), ("x = 5", 'x = "5"'), ("5\"", "5'"),
        ("A B", "A & B"), ("ab", "a/b"), ("foobar", "foo_bar"), (":)", ":("), ("😀", "😢"), ("", "😀"), ("?", "!"),
        ("", "?"), ("You are here.", "You are here?"), ("cafe", "café"), ("हिनदी", "हिन्दी"), ("#1", "@1"), ("=", "≠"),
    ],
)  # fmt: skip
def test_a_sign_that_carries_meaning_counts(answer, accepted):
    assert not mark(Instruction("own", "?", accepted, (accepted,)), answer)
    assert not mark(Instruction("own", "?", answer, (answer,)), accepted)


@pytest.mark.parametrize(
    "answer",
    [
        "Ada's café", "ada’s CAFÉ.", "  Ada's\u00a0cafe\u0301 !!\n", '"Ada\'s café."', "“Ada’s café”…", "'Ada's café'",
        "«Ada's café»", "Ada's,\ncafé", "\ufeffAda's ca\u200bfé",
    ],
)  # fmt: skip
def test_what_no_reader_would_mark_as_wrong_is_right(answer):
    assert mark(Instruction("own", "Whose?", "Ada's café", ("Ada's café",)), answer)


def test_a_minus_is_a_minus_and_every_script_has_closing_signs():
    for answer, accepted in (("\u22125", "-5"), ("e\u2011mail", "e-mail"), ("はい。", "はい"), ("好，好！", "好，好")):
        assert mark(Instruction("own", "?", accepted, (accepted,)), answer)


def test_lines_and_indentation_count_where_the_accepted_answer_has_several():
    code = "    if x:\n        a()\n        b()"
    record = Instruction("own", "Write it.", code, (code,))
    assert mark(record, code) and mark(record, f"\n{code}\n\n") and mark(record, code.strip().replace("\n", "\r\n"))
    assert not mark(record, "if x:\n        a()\n    b()") and not mark(record, " ".join(code.split()))


def test_yo_yo_is_one_word():
    record = Instruction("what", "Mia had a red yo-yo.\nWhich thing is it?", "a red yo-yo", ("a red yo-yo",))
    assert mark(record, "A red yo-yo.") and not mark(record, "a red yo yo")


def _text_of(record):
    """All that the reader of a question has before them."""
    return " ".join([question for question, _ in record.history] + [record.prompt])


def test_answers_about_a_text_can_be_read_in_it():
    read = Counter()
    for split in ("test", "new_wordings"):
        for record in load_instructions(split):
            if record.kind in ("who", "what", "where", "animal", "feeling", "felt", "first", "order", "said"):
                read[record.kind] += 1
                assert any(wanted.casefold() in _text_of(record).casefold() for wanted in record.wanted), record
    assert len(read) == 9


def test_the_marked_facts_are_those_of_the_text():
    """A second reading of the texts by patterns, which knows nothing of how they were written."""
    checked = Counter()
    for split in ("test", "new_wordings"):
        for record in load_instructions(split):
            found = READERS[record.kind](_text_of(record), record) if record.kind in READERS else None
            if found:
                checked[record.kind] += 1
                assert any(mark(record, answer) for answer in found), (record, found)
    assert all(checked[kind] >= 15 for kind in READERS), checked


KINDS = "|".join([*words().animals, "girl", "boy"])
ADJECTIVE = r"(?:[a-z]+ )?"


def _called(text, record):
    """The names of those who are said to be of the kind that the answer names."""
    kind = re.search(rf"The ({KINDS}) is called", record.response).group(1)
    patterns = (
        rf"([A-Z]\w+) the {kind}\b", rf"\b{kind} (?:called|named) ([A-Z]\w+)", rf"the {kind} ([A-Z]\w+)",
        rf"((?!He |She )[A-Z]\w+) (?:was|is) an? {ADJECTIVE}{kind}\b",
        rf"know ([A-Z]\w+)\? (?:He|She) is an? {kind}\b", rf"[Tt]he {kind} is called ([A-Z]\w+)",
        rf"[Tt]he {kind}'s name was ([A-Z]\w+)",
    )  # fmt: skip
    people = {*record.wanted, *record.rivals}
    return [name for pattern in patterns for name in re.findall(pattern, text) if name in people]


def _feelings_of(text, record):
    name = re.match(r"In this story, (.*) was", record.response).group(1)
    said = re.findall(rf"{name} (?:was|felt|is|looked) (?:very |so )?(\w+)", text, re.IGNORECASE)
    return [word for word in said if word in templates("scenes")["feeling"]]


READERS = {
    "who": _called,
    "feeling": _feelings_of,
    "where": lambda text, record: [at for at, _ in words().places if f" {at}" in text],
}


def test_counts_and_repeats_are_right():
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5}
    for record in load_instructions("test"):
        if record.kind == "count":
            counted = [part.split(": ")[1] for part in record.response.split(". ")[:-1]]
            number = record.response.rstrip(".").split()[-1]
            asked = record.prompt.casefold()
            assert len(counted) == numbers[number] and mark(record, number) and mark(record, str(len(counted))), record
            places = [re.search(rf"\b{re.escape(thing)}\b", asked) for thing in counted]
            assert all(places) and places == sorted(places, key=lambda place: place.start()), record
        if record.kind == "repeat":
            said = record.response.casefold().rstrip(".").split(", ")
            assert len(set(said)) == 1 and said[0] in record.prompt.casefold(), record


def test_a_right_name_is_of_the_one_who_is_meant():
    for record in load_instructions("test"):
        if record.kind in ("who", "felt", "said", "first") and record.rivals:
            others = [name for name in record.rivals if name[0].isupper()]
            assert not set(others) & set(record.wanted), record
            assert not any(mark(record, name) for name in others), record


def test_some_names_are_known_from_nowhere():
    records = [record for record in load_instructions("train") if record.kind == "who"]
    invented = [record for record in records if record.wanted[0] not in SEX]
    assert 0.1 < len(invented) / len(records) < 0.4
    test_names = {record.wanted[0] for record in load_instructions("test") if record.kind == "who"}
    assert test_names - {record.wanted[0] for record in records}


def test_a_word_is_in_one_group_only():
    groups = {name: set(lines[0].split()) for name, lines in templates("word_lists").items() if "group." in name}
    for first in groups:
        for second in groups:
            assert first == second or not groups[first] & groups[second]


def test_no_word_has_two_opposites():
    pairs = [line.split() for line in templates("word_lists")["opposite"]]
    flat = [word for pair in pairs for word in pair]
    assert len(set(flat)) == len(flat)


def test_kinds_are_asked_in_many_ways_and_held_out_ones_in_others():
    training, held_out = templates("wordings"), templates("held_out_wordings")
    asked = {name for name in training if name.startswith("ask.")}
    assert asked == {name for name in held_out if name.startswith("ask.")}
    for name in asked:
        assert len(training[name]) >= 25 and len(held_out[name]) >= 12, name
        assert not {_plain(line) for line in training[name]} & {_plain(line) for line in held_out[name]}, name


def test_every_slot_of_a_wording_is_filled():
    for split in INSTRUCTION_SPLITS:
        assert not [record for record in load_instructions(split) if re.search(r"[{}\[\]|]", _text_of(record))][:3]


def test_few_wordings_are_the_first_of_each_kind():
    few = write_instructions("validation", n_wordings=1)
    questions = {record.prompt for record in few if record.kind == "greeting"}
    assert questions == {templates("wordings")["ask.greeting"][0]}


def test_a_prompt_and_its_answer_fit_into_the_context():
    longest = max(len(f"{_text_of(r)} {r.response}".split()) for r in load_instructions("train"))
    assert longest <= 240


def test_slips_are_rare_and_never_in_a_name_or_an_animal():
    records = [record for record in load_instructions("train") if record.kind == "yesno"]
    assert all(re.search(r"\w", record.prompt) for record in records)
    named = [record for record in load_instructions("train") if record.kind == "who" and not record.history]
    assert all(record.wanted[0] in record.prompt for record in named)


# ------------------------------------------------------------------------------------------------------- preferences
def test_the_better_story_gets_the_full_reward_and_the_worse_one_less():
    for split in TASK_SPLITS:
        for pair in load_preferences(split):
            assert story_reward(pair.prompt, pair.chosen) == 4.0, pair
            assert story_reward(pair.prompt, pair.rejected) < 4.0, pair


def test_every_corruption_is_there_equally_often():
    for split in TASK_SPLITS:
        counts = Counter(pair.corruption for pair in load_preferences(split))
        assert set(counts) == set(CORRUPTIONS) and max(counts.values()) - min(counts.values()) <= 1


PARTS = {"name": ("hero", "strangers"), "object": ("thing",), "sad": ("happy end",), "repeat": ("said twice",),
         "cut": ("unfinished",), "pronoun": ("pronouns",), "unkind": ("unkind",)}  # fmt: skip


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_reward_sees_what_was_spoiled(corruption):
    for pair in load_preferences("validation"):
        if pair.corruption == corruption:
            better, worse = reward_parts(pair.prompt, pair.chosen), reward_parts(pair.prompt, pair.rejected)
            assert any(worse[part] < better[part] for part in PARTS[corruption]), pair


def test_better_stories_keep_their_hero_thing_and_pronouns():
    for pair in load_preferences("test"):
        hero = pair.prompt.split(" about ")[1].split()[0]
        sentence = pair.chosen.split(". ")[1]
        if re.match(r"(He|She) ", sentence):
            assert sentence.startswith(PRON[SEX[hero]][0].capitalize()), pair
        assert not re.search(r"[\[\]{}|]|\b(\w+) \1\b|\b[Aa] [aeiou](?!ne-)|  | [.,!?]", pair.chosen), pair


def test_the_reward_reads_requests_of_your_own():
    prompt = describe("Mia", "owl", "orange umbrella")
    assert prompt == "Tell a short story with a happy end about Mia the owl and an orange umbrella."
    good = "Mia the owl had an umbrella. She shared it. Mia was happy."
    assert story_reward(prompt, good) == 4.0
    assert story_reward(prompt, good.replace("She", "He")) == 3.0
    assert story_reward(prompt, "") < story_reward(prompt, "Mia.") < story_reward(prompt, good)


def test_the_reward_of_something_else_is_refused():
    with pytest.raises(ValueError, match="expected .* about NAME the ANIMAL and a THING"):
        story_reward("Tell me a joke.", "Ha ha.")


def test_the_reward_survives_any_text():
    rng, prompt = PortableRandom("fuzz"), describe("Ben", "fox", "red kite")
    for _ in range(n(200, 2_000)):
        text = "".join(rng.pick(['"', ".", " ", "Ben", "fox", "he", "\n", "?", "😀", "[", "("]) for _ in range(30))
        assert -60 < story_reward(prompt, text) <= 4


# -------------------------------------------------------------------------------------------------------- templates
def test_templates_choose_fill_and_put_an_before_a_vowel():
    assert (
        fill("a {o}, A {o}, a [apple|apple]", {"o": "old hat"}, PortableRandom("x"))
        == "an old hat, An old hat, an apple"
    )
    assert {fill("[[a|b]|c]", {}, PortableRandom(str(i))) for i in range(40)} == {"a", "b", "c"}


def test_dice_fall_the_same_everywhere():
    rng = PortableRandom("the same")
    assert [rng.below(100) for _ in range(6)] == DRAWS


DRAWS = [4, 97, 37, 99, 65, 14]
