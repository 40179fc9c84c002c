"""Checks of the exercises in chapter 6's side room `own_data`."""

import math

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import whole_numbers, words


def check_leaks(answer) -> None:
    def fn(train, test):
        got = answer(train, test)
        expect(isinstance(got, list), f"Return a list of texts; yours is a {type(got).__name__}.")
        return got

    hint = "A test text leaks when it stands among the training texts."
    expect_equal("leaks(['a b', 'c'], ['c', 'd'])", list(fn(["a b", "c"], ["c", "d"])), ["c"], hint)
    hint = "Capital letters do not count, and the text is returned as the test set has it."
    expect_equal("leaks(['The lamp'], ['THE lamp'])", list(fn(["The lamp"], ["THE lamp"])), ["THE lamp"], hint)
    hint = "Spaces between words and around them do not count."
    expect_equal("leaks([' a  b'], ['a b '])", list(fn([" a  b"], ["a b "])), ["a b "], hint)
    hint = "Whole texts are compared: a part of a training text is no copy of it."
    expect_equal(
        "leaks(['the red lamp'], ['red', 'redlamp'])", list(fn(["the red lamp"], ["red", "redlamp"])), [], hint
    )
    hint = "Spaces part words: without them it is another text."
    expect_equal("leaks(['a b'], ['ab'])", list(fn(["a b"], ["ab"])), [], hint)
    hint = "All words count, in their order, and so do numbers and signs."
    train, test = (
        ["where is the lamp now?", "pay 75 euros"],
        ["Where is the owl now?", "Here is the lamp now?", "pay euros 75", "pay 80 euros"],
    )
    expect_equal(f"leaks({train}, {test})", list(fn(list(train), list(test))), [], hint)
    expect_equal("leaks(['a b?'], ['a b'])", list(fn(["a b?"], ["a b"])), [], hint)
    fn(train, test)
    hint = "Each copy in the test set counts, in the order of the test set."
    expect_equal("leaks(['x', 'y'], ['y', 'x', 'Y'])", list(fn(["x", "y"], ["y", "x", "Y"])), ["y", "x", "Y"], hint)
    hint = "A text that stands twice in the test set leaks twice."
    expect_equal("leaks(['x'], ['x', 'x'])", fn(["x"], ["x", "x"]), ["x", "x"], hint)
    hint = "Any number of spaces parts two words, and so does the end of a line or a tabulator."
    expect_equal("leaks(['a b c'], ['a   b\\n\\tc'])", fn(["a b c"], ["a   b\n\tc"]), ["a   b\n\tc"], hint)
    hint = "There may be any number of texts, and all of their words count."
    train, long = [f"text {n}" for n in range(20)], "a text of these many words is not"
    expect_equal("leaks of 20 texts in themselves", fn(train, train), train, hint)
    expect_equal(f"leaks(['{long} one'], ['{long} two'])", fn([f"{long} one"], [f"{long} two"]), [], hint)
    a, b, c = words(3)
    train, test = [f"{a} {b}", c], [f"{b} {a}", f" {c.upper()}", f"{a}  {b} "]
    expect_equal(f"leaks({train}, {test})", list(fn(train, test)), test[1:], "The words may be any.")


def _score(f, length, mean_length, n_holders, n) -> float:
    rarity = math.log(1 + (n - n_holders + 0.5) / (n_holders + 0.5))
    return rarity * f / (f + 1.2 * (0.25 + 0.75 * length / mean_length))


def check_word_score(fn) -> None:
    for case, hint in (
        ((1, 10, 10, 1, 1), "The one passage there is holds the word: the rarity is ln(1 + 0.5 / 1.5)."),
        ((1, 10, 10, 2, 40), "Count the passages that hold the word, and those that do not."),
        ((3, 10, 10, 2, 40), "Three times count more than once, and less than three times as much."),
        ((1, 20, 10, 2, 40), "A passage twice as long as the mean counts less: three quarters of k1 grow with it."),
        ((2, 4, 11, 5, 7), "A short passage counts more; a word in most passages has a low rarity, never one below 0."),
        ((0, 10, 10, 2, 40), "A word that is not there adds nothing."),
        ((90, 700, 3.5, 45, 90_000), "All numbers may be large, and a mean need not be whole."),
        ((2, 9, 11.5, 3, 700), "A collection may have any number of passages."),
        ((1, 2, 3.5, 1, 2), "All numbers may be small."),
    ):
        expect_close(f"word_score{case}", fn(*case), _score(*case), hint)
    f, length, n_holders, more = whole_numbers(4, 1, 30)
    case = f, length, 12, n_holders, n_holders + more
    expect_close(f"word_score{case}", fn(*case), _score(*case), "All numbers are arguments.")


def check_supported(fn) -> None:
    hint = "Both words of the answer are in the passage."
    expect_close("supported('the owl', 'the old owl sleeps')", fn("the owl", "the old owl sleeps"), 1.0, hint)
    hint = "One word of the answer's four is in the passage."
    expect_close("supported('a fox sees owls', 'the fox')", fn("a fox sees owls", "the fox"), 0.25, hint)
    hint = "Capital letters and the signs at the end of a word do not count."
    expect_close("supported('Owl!', 'an OWL, asleep')", fn("Owl!", "an OWL, asleep"), 1.0, hint)
    hint = "A word that the answer repeats is one word."
    expect_close("supported('no no no owl', 'owl')", fn("no no no owl", "owl"), 0.5, hint)
    hint = "Whole words: an owl is not in a bowl."
    expect_close("supported('owl', 'a bowl')", fn("owl", "a bowl"), 0.0, hint)
    expect_close("supported('cat', 'a category')", fn("cat", "a category"), 0.0, hint)
    expect_close("supported('category', 'a cat')", fn("category", "a cat"), 0.0, hint)
    hint = "A number is a word too."
    expect_close("supported('35 euros', '75 euros')", fn("35 euros", "75 euros"), 0.5, hint)
    hint = "All four signs may stand at a word's end, several of them too; a sign inside a word belongs to it."
    expect_close("supported('Owl?', 'owl.')", fn("Owl?", "owl."), 1.0, hint)
    expect_close("supported('owl?! 1.5', 'owl, 15')", fn("owl?! 1.5", "owl, 15"), 0.5, hint)
    for answer in ("", "..."):
        share = fn(answer, "a bowl")
        expect_close(f"supported({answer!r}, 'a bowl')", share, 0.0, "An answer without words has the share 0.")
    hint = "Signs alone are no word."
    expect_close("supported('owl ...', 'owl')", fn("owl ...", "owl"), 1.0, hint)
    hint = "Only `.,!?` do not count, and only at a word's end."
    for answer, passage in ((".5", "5"), ("owl;", "owl"), ("(owl)", "owl"), ("owls", "owl")):
        expect_close(f"supported({answer!r}, {passage!r})", fn(answer, passage), 0.0, hint)
    hint = "Answer and passage may have any number of words, parted by spaces or the ends of lines."
    many = "one two three\nfour five six seven eight"
    expect_close(f"supported({many!r}, {many!r} + ' nine')", fn(many, f"{many} nine"), 1.0, hint)
    for word in ("three", "eight"):
        expect_close(f"supported({many!r}, {word!r})", fn(many, word), 1 / 8, hint)
    expect_close("supported('one two three', 'two')", fn("one two three", "two"), 1 / 3, "Do not round.")
    a, b, c = words(3)
    expect_close(f"supported('{a} {b}', '{c} {b}')", fn(f"{a} {b}", f"{c} {b}"), 0.5, "The words may be any.")


CHECKS = {"6d.1": check_leaks, "6d.2": check_word_score, "6d.3": check_supported}
