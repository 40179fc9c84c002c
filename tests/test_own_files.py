"""Files of your own: texts, messages and instructions are read whole, or refused in one sentence that says why."""

import bz2
import csv
import io
import json
import lzma
import re
import warnings

import pytest

from data.files import read_utf8
from data.own_instructions import holds_instructions, read_instructions
from data.own_messages import NAMES, holds_messages, read_messages
from data.paths import DATA_DIR
from data.story_world.marking import Instruction, mark


def _write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.fixture
def read(tmp_path):
    """Write a file and read it without a single warning."""

    def read(reader, content, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return reader(_write(tmp_path / "own.file", content), **options)

    return read


# -------------------------------------------------------------------------------------------------------------- texts
LINES = "ham\tSee you at six\nspam\tWin a lamp: café, 中文\u2028two\x85three\x0bfour\x0cfive\n"
RECORDS = '[{"instruction": "a",\n "output": "b"},\n{"instruction": "c", "output": "d\u2028e\x85f"}]\n'
READERS = pytest.mark.parametrize("reader", [read_utf8, read_messages, read_instructions])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "mixed"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("reader, text", [(read_utf8, LINES), (read_messages, LINES), (read_instructions, RECORDS)])
def test_a_file_is_read_whole_whatever_ends_its_lines(read, reader, text, end, bom):
    content = text.replace("\n", "\r", 1).replace("\n", "\r\n") if end == "mixed" else text.replace("\n", end)
    expected = {
        read_utf8: LINES,
        read_messages: [tuple(reversed(line.split("\t"))) for line in LINES.split("\n")[:2]],
        read_instructions: [
            Instruction("own", "a", "b", ("b",)),
            Instruction("own", "c", "d\u2028e\x85f", ("d\u2028e\x85f",)),
        ],
    }[reader]
    assert read(reader, bom + content.encode("utf-8")) == expected


@pytest.mark.parametrize(
    "content, complaint",
    [
        (LINES.encode("utf-16"), "is UTF-16 text, not UTF-8 text; save it as plain text in UTF-8"),
        (b"\xfe\xff" + LINES.encode("utf-16-be"), "is UTF-16 text"),
        (LINES.encode("utf-32"), "is UTF-32 text"),
        (LINES.encode("utf-16-le"), r"holds NUL bytes \(\d+, the first in line 1\), as UTF-16 text and .* do; save it"),
        (LINES.encode("utf-16-be"), "holds NUL bytes"),
        (LINES.encode("utf-32-le"), "holds NUL bytes"),
        (b"ham\tone\rspam\ttw\0o\n", r"holds NUL bytes \(1, the first in line 2\)"),
        ("ham\tone\r\nham\tcafé\n".encode("latin-1"), r"is not UTF-8 text \(byte 16, in line 2, does not fit"),
        ("ham\t中文\n".encode("gb18030"), "is not UTF-8 text"),
        (b"PK\x03\x04\x14\0\x06\0", "is a ZIP archive .as .xlsx"),
        (b"{\\rtf1\\ansi ham}", "is an RTF file"),
        (bz2.compress(LINES.encode("utf-8")), "is a file packed by bzip2"),
        (lzma.compress(LINES.encode("utf-8")), "is a file packed by xz"),
        (b"SQLite format 3\0\x10\0", "is a database of SQLite"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "holds NUL bytes"),
    ],
)
@READERS
def test_what_is_no_utf8_text_is_refused_with_its_cause(tmp_path, reader, content, complaint):
    with pytest.raises(ValueError, match=f"own.txt {complaint}"):
        reader(_write(tmp_path / "own.txt", content))


@READERS
def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path, reader):
    with pytest.raises(ValueError, match="nowhere.* cannot be read"):
        reader(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"cannot be read \(it is a folder\)"):
        reader(tmp_path)


# ----------------------------------------------------------------------------------------------------------- messages
PLAIN = [("See you, at six", "ham"), ('Win a "lamp"', "spam")]


@pytest.mark.parametrize(
    "content",
    [
        'ham\tSee you, at six\r\n\r\nspam\tWin a "lamp"\r\n',
        'ham\tSee you, at six\t\t\nspam\tWin a "lamp"\t\t\n   \n',
        'label,text\nham,"See you, at six"\nspam,Win a "lamp"\n',
        'label, text\nham, "See you, at six"\nspam, "Win a ""lamp"""\n',
        '"Text","Label"\n"See you, at six","ham"\n"Win a ""lamp""","spam"\n',
        'id;label;text\n1;ham;See you, at six\n2;spam;Win a "lamp"\n;;\n',
        'sep=;\nlabel;text;;\nham;See you, at six;;\nspam;Win a "lamp";;\n',
        ',text,label\n0,"See you, at six",ham\n1,"Win a ""lamp""",spam\n',
        'text\tlabel\nSee you, at six\tham\n"Win a ""lamp"""\tspam\n',
        'date|LABEL|text\n|ham|See you, at six\n|spam|Win a "lamp"\n',
        'category,label,text\nx,ham,"See you, at six"\ny,spam,Win a "lamp"',
    ],
)
def test_messages_of_your_own_are_read(read, content):
    assert read(read_messages, content) == PLAIN


def test_columns_are_chosen_by_name(read):
    content = 'Kategorie;Betreff;Nachricht\nham;x;See you, at six\nspam;y;"Win a ""lamp"""\n'
    assert read(read_messages, content, label="Kategorie", text="Nachricht") == PLAIN
    assert read(read_messages, "class,category,text\na,b,x\n", label="category", text="text") == [("x", "b")]
    for options in ({"text": "Text", "label": "Kategorie"}, {"label": "Nachricht"}, {"text": 2}):
        with pytest.raises(ValueError, match="found the columns 'Kategorie', 'Betreff', 'Nachricht'; expected"):
            read(read_messages, content, **options)
    with pytest.raises(ValueError, match="line 1: found the columns 'label', 'text'; expected 'text' and 'text'"):
        read(read_messages, "label,text\nham,x\n", text="text", label="text")


def test_a_text_keeps_what_can_carry_meaning(read):
    assert read(read_messages, "py\t    return 1\nham\t“a\tb”  \n") == [("    return 1", "py"), ("“a\tb”", "ham")]
    code = "    if x:\n\n        return 1"
    assert read(read_messages, f'label,text\npy,"\n{code}\n\n"\nc,int x;\n') == [(code, "py"), ("int x;", "c")]
    assert read(read_messages, 'ham\t"Meet" he said\nham\t"unbalanced\nspam\tWin 5"\n')[1:] == [
        ('"unbalanced', "ham"), ('Win 5"', "spam"),
    ]  # fmt: skip
    long = "word " * 40_000 + "end"
    assert read(read_messages, f"label,text\nham,{long}\n") == read(read_messages, f"ham\t{long}\n") == [(long, "ham")]


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("ham\tfine\nno tab here\n", "line 2: found 'no tab here'; expected a label, a tab and a text"),
        ("ham\t\n", "line 1: found"),
        ("\ttext without a label\n", "line 1: found"),
        ("ham\t\u200b\n", "line 1: found"),
        (
            "ham,fine\nspam,Win\n",
            "line 1: found 'ham,fine'; expected .* names its columns .*--label.* write label,text",
        ),
        ("", "holds no message"),
        ("\n \n", "holds no message"),
        ("label,text\n", "holds no message"),
        ("sep=;\nKategorie;Nachricht\nham;x\n", "line 2: found the columns 'Kategorie', 'Nachricht'; expected"),
        ("class,category,text\na,b,x\n", "'class', 'category', each of which may hold the label; choose with label="),
        ("label,text\nham,See you, at six\n", "line 2: found 3 columns, but line 1 names 2; put texts that hold ','"),
        ("label,text\n\nham\n", "line 3: found nothing in column 'text'; fill it in"),
        ("label,text\n,Win\n", "line 2: found nothing in column 'label'"),
        ('label,text\nham,"See you\nspam,Win\n', "line 2: found a quotation mark that is not closed"),
        ('label,text\nham,x\nspam,"a\nb" c\n', "line 3: found a quotation mark that is not closed"),
        ('label,text\nham,"say \\"hi\\" now"\n', "line 2: found a quotation mark .* twice"),
        ('label\ttext\nham\t"unbalanced\nspam\tWin 5"\n', "line 2: found a quotation mark that is not closed"),
        ("label,text\nham,x\nlabel,text\nspam,y\n", "line 3: found the names of the columns once more"),
        ("ham\tx\nlabel\ttext\nspam\ty\n", "line 2: found 'label.ttext', names of columns; remove the line"),
        ("See you at six\tham\nWin a lamp\tspam\nHello\tham\n", "3 different labels, .*for 2 .*the two are swapped"),
        ("我明天来看你好吗\t普通\n你中奖了快来领取\t垃圾\n今天天气\t普通\n", "the two are swapped"),
        ("label,text\nham,x\n\ufefflabel,text\nspam,y\n", "line 3: found the names of the columns once more"),
        ("| label | text |\n|---|:--|\n| ham | x |\n", "line 2: found a line drawn between names and rows; remove it"),
        (" label | text\n-------+------\n ham | x\n", "line 2: found a line drawn between names and rows"),
        ('label,text\n"ham\nor so",x\n', r"line 2: found the label 'ham\\nor so', which holds a line end or a control"),
        ("ham\tx\nspam\x1b[31m\ty\n", r"line 2: found the label 'spam\\x1b\[31m', which holds"),
        ("ham\tone\n\u200bham\ttwo\n", r"the labels '\\u200bham' \(line 2\) and 'ham' \(line 1\) look the same"),
        ("ham\tone\n\ufeffham\ttwo\n", "look the same and are not; write both alike"),
        ("not spam\tone\nnot  spam\ttwo\nnot spam\tthree\n", "look the same"),
        ("not spam\tone\nnot\u00a0spam\ttwo\n", "look the same"),
        ("café\tone\ncafe\u0301\ttwo\n", "look the same"),
    ],
)
def test_what_cannot_be_messages_is_refused_with_file_and_line(read, content, complaint):
    with pytest.raises(ValueError, match=r"own\.file.*" + complaint):
        read(read_messages, content)


@pytest.mark.parametrize(
    "content, n, doubt",
    [
        ("v1,v2,,,\nham,Hi,,,\nspam,Win,,,\n", 2, "column 'v1' is read as the label and 'v2' as the text; choose with"),
        ("Category,Message\nham,Hi\n", 1, "column 'Category' is read as the label"),
        ("label,text,,\nham,Hi,,\nspam,Win,a lamp,\n", 2, r"without a name is not read, in 1 of 2 rows .*line 3\)"),
        ("label\tNachricht\nham\tHi\n", 2, "line 1 is read as a message; if 'label' and 'Nachricht' name columns"),
        ("Kat\tNachricht\n" + "ham\tHi\nspam\tWin\n" * 3, 7, r"occur only once: 'Kat' \(line 1\); are they labels"),
        ("ham\tHi\nspam\tWin\n" * 3 + "sapm\tWin\n", 7, r"occur only once: 'sapm' \(line 7\)"),
        ("ham\tHi\nham\tWin\nLabel\tx\n", 3, "'label' stands among the labels"),
        ("ham\tone\nHam\ttwo\n", 2, r"the labels 'ham' \(line 1\) and 'Ham' \(line 2\) differ in capitals only"),
        ("ham\tone\nham.\ttwo\n", 2, r"'ham' \(line 1\) and 'ham.' \(line 2\) differ in a sign at the end only"),
        ("1\tone\n1.0\ttwo\n", 2, r"'1' \(line 1\) and '1.0' \(line 2\) differ in the form of a number only"),
        ("ham\tcaf\ufffd\nspam\ttea\nham\tbl\ufffd\n", 3, r"stands in 2 lines \(the first is line 1\), so letters"),
        ("".join(f"{i}\tmessage {i}\n" for i in range(10)), 10, "10 different labels for 10 messages"),
        ('"ham"\t"Hi"\n"spam"\t"Win"\n', 2, r"quotation marks of CSV stay in 2 of 2 messages \(the first in line 1\)"),
        ('ham\tHi\nspam\t"Win a ""lamp"""\n', 2, r"quotation marks of CSV stay in 1 of 2 messages .*line 2\)"),
    ],
)
def test_what_is_only_doubtful_is_read_with_a_warning(tmp_path, content, n, doubt):
    with pytest.warns(UserWarning, match=r"own\.file: " + ".*" + doubt) as seen:
        assert len(read_messages(_write(tmp_path / "own.file", content))) == n
    assert len(seen) == 1 and seen[0].filename == __file__


@pytest.mark.parametrize(
    "content",
    [
        "help\tone\nthanks\ttwo\nsorry\tthree\n",
        "0\tone\n1\ttwo\n0\tthree\n",
        "True\tone\nFalse\ttwo\n",
        "not spam\tone\nspam\ttwo\n",
        "yes\tok\nno\tok\n",
        "type\tone\n".replace("type", "help") * 12,
        "ham\t" + "x\nham\t" * 9 + "x\nspam\ty\nspam\tz\n",
        "C\tone\nC++\ttwo\nC#\tthree\n",
        "1\tone\n10\ttwo\n1.5\tthree\n-1\tfour\n",
        "1.2.3\tone\n1.2\ttwo\n",
    ],
)
def test_labels_of_every_ordinary_kind_pass_without_a_word(read, content):
    assert [message.label for message in read(read_messages, content)] == re.findall(r"^(.+?)\t", content, re.M)


# ------------------------------------------------------------------------------------------------------- instructions
GOOD = '{"instruction": "a", "output": "b"}'
TALK = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def test_instructions_of_your_own_are_read(read):
    records = [
        {"instruction": "Name a color.", "output": "Red"},
        {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"},
        {"instruction": "Name a tree.", "input": None, "output": "An oak.", "id": 3, "score": 0.5, "note": ""},
    ]
    first, second, third = read(read_instructions, b"\xef\xbb\xbf" + json.dumps(records, indent=2).encode("utf-8"))
    assert first == Instruction("own", "Name a color.", "Red", ("Red",))
    assert second.prompt == "Translate.\nGuten Tag" and third.prompt == "Name a tree."


@pytest.mark.parametrize(
    "content, n",
    [
        (f"{GOOD}\n{GOOD}\n", 2),
        (f"{GOOD}\n\n \n{GOOD}\n\n", 2),
        (f"\ufeff{GOOD}\n\ufeff{GOOD}", 2),
        (json.dumps(json.loads(GOOD), indent=2) * 2, 2),
        (GOOD, 1),
        (TALK, 1),
        (f"[{TALK}, {GOOD}]", 2),
        ('[{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]', 1),
    ],
)
def test_json_lines_and_talks_of_one_question_are_read(read, content, n):
    assert read(read_instructions, content) == [Instruction("own", "a", "b", ("b",))] * n


def test_other_keys_are_read_where_they_are_named(tmp_path):
    dolly = '[{"instruction": "Who?", "context": "Mira rows.", "response": "Mira.", "category": "qa"}]'
    path = _write(tmp_path / "own.json", dolly)
    with pytest.raises(ValueError, match=r"pass keys={'input': 'context', 'output': 'response'}"):
        read_instructions(path)
    with pytest.warns(UserWarning, match=r"own\.json: text under 'category' is not read, in 1 of 1 records .*line 1"):
        records = read_instructions(path, keys={"input": "context", "output": "response"})
    assert records == [Instruction("own", "Who?\nMira rows.", "Mira.", ("Mira.",))]
    for keys in ({"in": "context"}, {"input": "output"}):
        with pytest.raises(ValueError, match="keys=.* is unclear; expected other names of instruction, input, output"):
            read_instructions(path, keys=keys)


@pytest.mark.parametrize(
    "question, answer", [("question", "answer"), ("prompt", "completion"), ("Query", "Response"), ("prompt", "target")]
)
def test_usual_keys_are_read_unasked_and_named(tmp_path, question, answer):
    record = json.dumps({question: "a", answer: "b"})
    told = f"'{question}' as the instruction and '{answer}' as the output .*--question {question} --answer {answer}"
    with pytest.warns(UserWarning, match=told):
        found = read_instructions(_write(tmp_path / "own.jsonl", record))
    assert found == [Instruction("own", "a", "b", ("b",))]


def test_letters_that_were_lost_before_are_named_in_records_too(tmp_path):
    with pytest.warns(UserWarning, match=r"own.jsonl: the sign \ufffd stands in 1 lines \(the first is line 2\)"):
        found = read_instructions(_write(tmp_path / "own.jsonl", GOOD + "\n" + TALK.replace('"a"', '"caf\ufffd"')))
    assert len(found) == 2


def test_roles_may_have_capitals(read):
    assert read(read_instructions, TALK.replace("user", "User").replace("assistant", "ASSISTANT"))[0].response == "b"


@pytest.mark.parametrize("role, said", [("role", "content"), ("from", "value")])
def test_what_the_system_says_before_a_talk_is_left_out_with_a_word(tmp_path, role, said):
    turns = [{role: who, said: text} for who, text in (("system", "s"), ("user", "a"), ("assistant", "b"))]
    lines = [json.dumps({"messages": turns}), TALK]
    with pytest.warns(UserWarning, match="what the system says is not read, in 1 of 2 records .the first: line 1"):
        found = read_instructions(_write(tmp_path / "own.jsonl", "\n".join(lines)))
    assert found == [Instruction("own", "a", "b", ("b",))] * 2


@pytest.mark.parametrize("key", ["category", "Input", "history", "context"])
def test_text_under_an_unknown_key_does_not_vanish_without_a_word(tmp_path, key):
    record = {"instruction": "a", "input": "", "output": "b", key: ["c"] if key == "history" else "c"}
    with pytest.warns(
        UserWarning, match=f"text under '{key}' is not read, in 2 of 3 records .the first: line 2, record 2"
    ):
        read_instructions(_write(tmp_path / "own.json", "\n".join([GOOD, *[json.dumps(record)] * 2])))


def test_a_text_keeps_its_indentation_and_loses_blank_lines_only(read):
    code = {
        "instruction": "\n \nComplete.\r\n",
        "input": "    if x:\n\n        return 1\n\n",
        "output": "\n    else:\n\ty\n",
    }
    (record,) = read(read_instructions, json.dumps([code]))
    assert record.prompt == "Complete.\n    if x:\n\n        return 1"
    assert record.response == "    else:\n\ty"
    assert mark(record, record.response) and not mark(record, "else: y")


@pytest.mark.parametrize(
    "content, complaint",
    [
        (f'[\n{GOOD},\n{{"instruction": "x"}}\n]', r"line 3, record 2: the key 'output' is missing; expected a record"),
        (f'[\n{GOOD},\n{{"output": "x"}}\n]', "line 3, record 2: the key 'instruction' is missing"),
        (f'{GOOD}\n\n{{"instruction": "x"}}\n', "line 3, record 2: the key 'output' is missing"),
        (f"[\n{GOOD},\n]", "line 2: found a comma after the last record"),
        (f"{GOOD},\n{GOOD}", "line 1: found a comma after a record; remove such commas, or put all"),
        ('[\n{"instruction": "a",\n "output": "b",}\n]', "line 3: found a comma before the closing bracket"),
        ('[\n{"instruction": "a", "output": ["b",]}\n]', "line 2: found a comma before the closing bracket"),
        ('[\n{"instruction": "a",, "output": "b"}\n]', "line 2: this is not JSON"),
        ('[\n{"instruction": "a", "output": NaN}\n]', "line 2, record 1: found NaN, which is no JSON value"),
        (GOOD[:-1] + ', "x": -Infinity}', "line 1, record 1: found -Infinity, which is no JSON value"),
        (GOOD[:-1] + f', "x": {"9" * 5000}}}', "line 1, record 1: found a number of 5,000 digits"),
        ('[\n{"instruction": "a", "output": 3}\n]', "line 2, record 1: 'output' is 3; expected a text"),
        ('[{"instruction": "a", "output": ["oak"]}]', r"record 1: 'output' is \[\"oak\"\]; expected a text"),
        ('[{"instruction": "a", "output": true}]', "record 1: 'output' is true; expected a text"),
        ('[{"instruction": "a", "output": null}]', "record 1: 'output' is null; expected a text"),
        ('[{"instruction": null, "output": "b"}]', "record 1: 'instruction' is null; expected a text"),
        ('[{"instruction": "a", "input": 5, "output": "b"}]', "record 1: 'input' is 5; expected a text"),
        ('[\n{"instruction": " ", "output": "b"}\n]', "line 2, record 1: 'instruction' is empty"),
        ('[{"instruction": "a", "output": "\\u200b"}]', "record 1: 'output' is empty"),
        ('[{"instruction": "a", "output": "b", "output": "c"}]', "record 1: the key 'output' stands twice; keep one"),
        (f'{GOOD}\n{{"instruction": "a", "instruction": "c", "output": "b"}}', "record 2: the key 'instruction'"),
        ('[{"instruction": "a", "Input": "c", "output": "b"}]', "found the key 'Input'; write 'input', or pass keys="),
        ('[{"instruction": "a", "imput": "c", "output": "b"}]', "found the key 'imput'; write 'input'"),
        ('[{"instruction": "a", " input": "c", "output": "b"}]', "found the key ' input'; write 'input'"),
        ('[{"Instruction": "a", "OUTPUT": "b"}]', "pass keys={'instruction': 'Instruction', 'output': 'OUTPUT'}"),
        ('[{"prompt": "a", "query": "c", "answer": "b"}]', "keys={'instruction': 'prompt', 'output': 'answer'}"),
        ('[{"instruction": "a", "answer": "b"}]', r"keys={'output': 'answer'} \(in the terminal --answer answer\)"),
        ('[{"instruction": "a", "reply": "b"}]', "there is text under 'reply'; rename the keys, or pass keys={'output"),
        (f'{{"data": [{GOOD}]}}', "'data' holds a list of records; keep only this list in the file"),
        (TALK.replace("}, {", '}, {"role": "system", "content": "s"}, {'), "found a talk of user, system, as"),
        (TALK + "\n" + TALK.replace("}]", '}, {"role": "user", "content": "c"}]'), "line 2, record 2: found a talk of"),
        (TALK.replace('"b"', "null"), "found a turn that says null; expected a text"),
        ('{"messages": "hello"}', "'messages' is \"hello\"; expected a list of turns"),
        ('{"messages": ["a", "b"]}', r"'messages' is \[\"a\", \"b\"\]; expected a list of turns"),
        (f'{{"messages": {json.dumps(json.dumps([{"role": "user", "content": "a"}]))}}}', "expected a list of turns"),
        (json.dumps({f"q{k}": "a" for k in range(9)}), "text under 'q0' and 'q1' and 'q2' and more; rename the keys"),
        ("question,answer\n--------,------\na,b\n", "line 2: found a line drawn between names and rows; remove it"),
        ("question,answer\na,b\n\ufeffQuestion,Answer\n", "line 3: found the names of the columns once more"),
        (f"[\n{GOOD}\n{GOOD}\n]", "line 3: found .* after a record; expected a comma or"),
        (f"[\n{GOOD},\n17]", "line 3, record 2: found 17; expected a record"),
        (f"[[{GOOD}]]", r"record 1: found \[.*; expected a record"),
        (f"[\n{GOOD}", "found the end of the file after a record"),
        ('[\n{"instruction": "a', "line 2: the file ends in the middle of a record"),
        (f'{GOOD}\n{{"instruction": "a", "outp', "line 2: the file ends in the middle of a record"),
        ('[{"instruction": "a\nb", "output": "c"}]', "line 1: found a line end inside of a text, where JSON writes"),
        ('[{"instruction": "a\tb", "output": "c"}]', "line 1: found a tab inside of a text"),
        ('[{"instruction": "a\x01b", "output": "c"}]', "line 1: found a control sign inside of a text"),
        (f"[\n// first\n{GOOD}]", "line 2: found a comment"),
        (f"[/* first */{GOOD}]", "line 1: found a comment"),
        ("[{'instruction': 'a', 'output': 'b'}]", "line 1: found a quotation mark that is not \""),
        ("[{“instruction”: “a”, “output”: “b”}]", "line 1: found a quotation mark that is not \""),
        ('[{"instruction": "a", "input": None, "output": "b"}]', "line 1: found a value of Python"),
        ('[{"instruction": "C:\\dir", "output": "b"}]', "line 1: found a backslash that JSON does not know"),
        ('[{"instruction": "say "hi"", "output": "b"}]', "line 1: found 'hi.* where a comma belongs; a quotation mark"),
        ('[{instruction: "a", "output": "b"}]', "line 1: this is not JSON"),
        (f"{GOOD}\nhello\n", "line 2: this is not JSON"),
        ("[]", "holds an empty list"),
        ("", "is empty; expected a JSON list"),
        ("label,text\na,b\n", "begins with 'label,text.*expected a JSON list.*columns 'question' and 'answer'"),
        ("How do I list files? ls", "begins with 'How do I list.*or a table whose first line names"),
        ("instruction,output\n\n", "holds no row below the names of its columns"),
        ("instruction,output\na,b\nc,\n", "line 3: 'output' is empty; fill it in"),
        ("instruction,output\na,b\nc\n", "line 3: 'output' is empty; fill it in"),
        ("question;answer\na;b\nc;d;e\n", "line 3: found 3 columns, but line 1 names 2; put texts that hold ';'"),
        ("question,answer\na,b\nquestion,answer\n", "line 3: found the names of the columns once more"),
        ('question,answer\na,b\nc,"d\ne,f\n', "line 3: found a quotation mark that is not closed"),
        ("instruction,output,output\na,b,c\n", "line 1: the column 'output' stands twice; keep one"),
        (f"[{GOOD}] and more", "line 1: found more text after the end"),
        (f"[{GOOD}]\n[{GOOD}]", "line 1: found more text after the end"),
        ("[" * 100_000, "line 1, record 1: found too many brackets; expected a record"),
        ('{"a":' * 100_000, "line 1, record 1: found too many brackets"),
    ],
)  # fmt: skip
def test_bad_instruction_files_are_refused_with_file_line_record_and_key(read, content, complaint):
    with pytest.raises(ValueError, match=r"own\.file.*" + complaint):
        read(read_instructions, content)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("names, given", [
    (("instruction", "output"), None), (("question", "answer"), None), (("Frage", "Antwort"), True),
    (("Query", "Response"), None), ((" question ", "answer"), None),
])  # fmt: skip
def test_a_table_of_questions_and_answers_is_read(tmp_path, names, given, separator):
    table = io.StringIO()
    csv.writer(table, delimiter=separator).writerows(
        [names, ("a", "b"), ('say "hi", or;\tboth |', "two\n  lines"), ("c", "d")]
    )
    path = _write(tmp_path / "own.csv", "\ufeff" + table.getvalue())
    keys = {"instruction": names[0], "output": names[1]} if given else None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = read_instructions(path, keys=keys)
    assert [(row.prompt, row.response) for row in found] == [
        ("a", "b"), ('say "hi", or;\tboth |', "two\n  lines"), ("c", "d")
    ]  # fmt: skip
    assert bool(told) == (not given and names[0] != "instruction")
    assert given or (holds_instructions(path) and not holds_messages(path))


def test_columns_beside_question_and_answer_are_read_as_keys_are(tmp_path):
    path = _write(tmp_path / "own.csv", "instruction,input,output,note\nWho?,Mira rows.,Mira.,x\nWhy?,,So.,\n")
    with pytest.warns(UserWarning, match=r"text under 'note' is not read, in 1 of 2 records .the first: line 2."):
        found = read_instructions(path)
    assert [row.prompt for row in found] == ["Who?\nMira rows.", "Why?"]
    assert not holds_instructions(_write(tmp_path / "rows.csv", "label,text\na,b\n"))
    assert holds_messages(tmp_path / "rows.csv")


def test_half_a_character_is_read_as_the_sign_for_what_cannot_be_read(read):
    found = read(read_instructions, '[{"instruction": "\\ud83d a", "output": "\\ud83d\\ude42"}]')
    assert (found[0].prompt, found[0].response) == ("\ufffd a", "\U0001f642")
    talk = TALK.replace('"a"', '"\\udc00 a"')
    assert read(read_instructions, talk)[0].prompt == "\ufffd a"


def test_what_json_can_read_the_reader_reads_too(read):
    """A second opinion: the walk through the list and `json.loads` agree on files of many shapes."""
    for indent in (None, 0, 1, 4):
        records = [{"instruction": f'say {i} "quoted", [x]', "input": "", "output": f"{i}\n}}"} for i in range(30)]
        for content in (json.dumps(records, indent=indent), "\n".join(json.dumps(r, indent=indent) for r in records)):
            assert [record.response for record in read(read_instructions, content)] == [r["output"] for r in records]


# -------------------------------------------------------------------------------------------------------- the README
def test_the_readme_of_the_data_names_every_column_that_is_found_and_its_examples_work(tmp_path):
    section = (DATA_DIR / "README.md").read_text(encoding="utf-8").split("## Files of your own")[1].split("\n## ")[0]
    assert not [name for names in NAMES.values() for name in names if f"`{name}`" not in section]
    keys = re.search(r"keys=({[^}]+})", section)[1]
    record = {"instruction": "a", **{other: "b" for other in json.loads(keys).values()}}
    path = _write(tmp_path / "own.jsonl", json.dumps(record))
    assert read_instructions(path, keys=json.loads(keys)) == [Instruction("own", "a\nb", "b", ("b",))]
