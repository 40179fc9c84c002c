"""Claims about `python course.py slides`: what becomes a slide, whether it fits, and that a deck holds everything."""

import ast
import re
from pathlib import Path

import pytest

from shared.commands import slides
from shared.commands.lab import notebook_of
from shared.site import pages
from shared.site.quiz import Choice, Question
from shared.site.slides import MOST_COLUMNS, MOST_LINES, SHOWN, SHOWN_OUTPUT, Slide, narrow, slides_of
from tests import chromium
from tests.test_site import figure, markdown, write_notebook
from tests.test_site import made as read_pages

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.name for path in ROOT.glob("ch[0-9][0-9]_*"))

TEXT = """About the cell above.

**Try it.** Count [them](other.ipynb).

<details><summary>Answer</summary>

```python
# not a heading
print(4)
```

</details>

## 1.1 Tokens

A token is a piece. It has a number. Nobody says this on a slide.

$$x^2$$

![A dot](dot.svg)
"""


def tagged(cell: dict, tag: str) -> dict:
    return cell | {"metadata": {"tags": [tag]}}


def code(source: str, said: str = "") -> dict:
    outputs = [{"output_type": "stream", "name": "stdout", "text": said}] if said else []
    return {"cell_type": "code", "id": "code", "metadata": {}, "source": source, "execution_count": 1,
            "outputs": outputs}  # fmt: skip


@pytest.fixture
def small(tmp_path) -> Path:
    write_notebook(
        tmp_path / "one.ipynb",
        markdown("# 1 · One\n\n**A claim.**\n\n*You need:* nothing."),
        markdown("## You will be able to\n\n- count."),
        markdown("## Set-up\n\nOnly for those who run it."),
        markdown("## The problem\n\nNobody knows."),
        tagged(markdown(TEXT), SHOWN),
        markdown("Said of the tokens, not shown."),
        tagged(code("print(1)  # one", "1\n"), SHOWN),
        tagged(figure('ax = new_axes("Less is more")'), SHOWN_OUTPUT),
        code("print('not shown')"),
        tagged(markdown("What is a token? A piece."), SHOWN),
        markdown(
            "## Recall\n\n<details><summary>1. What is `x`?</summary>A number.</details>\n\n## Sources\n\n- A book."
        ),
    )
    (tmp_path / "dot.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><circle r='1'/></svg>")
    return tmp_path / "one.ipynb"


@pytest.fixture
def made(small) -> list[Slide]:
    question = Slide("1.1 Tokens", "What do you think?", "How many?")
    return slides_of(pages.read_notebook(small), small.parent, {"1.1 Tokens": question, "9.9 Not here": question})


# ---------------------------------------------------------------- from the notebook


def test_a_deck_begins_with_claim_and_goals_and_ends_with_the_recall_questions(made):
    assert made[0] == Slide("", "1 · One", "**A claim.**", notes="*You need:* nothing.")
    assert (made[1].heading, made[1].body) == ("You will be able to", "- count.")
    assert made[-1] == Slide("Recall", "", "**What is `x`?**", "A number.")


def test_a_tagged_text_gives_a_slide_for_its_heading_and_one_for_what_to_try(made):
    assert [slide.heading for slide in made] == [
        "1 · One", "You will be able to", "Try it", "1.1 Tokens", "", "", "", "What do you think?", "",
    ]  # fmt: skip
    attempt, tokens = made[2], made[3]
    assert attempt.body == "Count them." and "print(4)" in attempt.notes and "# not a heading" in attempt.notes
    assert tokens.body.startswith("A token is a piece.\n\n$$x^2$$\n\n![A dot](data:image/svg+xml;base64,")
    assert "Nobody says this on a slide." in tokens.notes and "data:" not in tokens.notes


def test_a_text_without_tag_goes_into_the_notes_and_the_set_up_nowhere(made):
    assert made[3].notes.endswith("Said of the tokens, not shown.")
    assert made[1].notes == "Nobody knows.\n\nAbout the cell above."
    everything = " ".join(slide.body + slide.notes for slide in made)
    assert "Only for those" not in everything and "A book" not in everything and "not shown')" not in everything


def test_a_cell_shows_its_code_or_only_what_it_gives(made):
    assert made[4].body == "````python\nprint(1)  # one\n````\n\n````text\n1\n````"
    assert made[5].body.startswith("![Figure: Less is more](data:image/png;base64,")
    assert made[6].section == "1.1 Tokens" and made[6].body == "What is a token? A piece."


def test_a_question_stands_at_the_end_of_its_section(made):
    assert [slide.section for slide in made].count("1.1 Tokens") == 5 and made[7].body == "How many?"


def test_a_comment_that_ends_beyond_the_slide_is_left_out():
    long = "x = weights_of_all_heads @ values_of_all_heads"
    assert narrow(f"{long}  # {'(B, H, T, K) ' * 3}\ny = 1  # kept") == f"{long}\ny = 1  # kept"
    assert narrow(f's = "{"a" * 80}  # in a text"') == f's = "{"a" * 80}  # in a text"'


def test_a_question_of_the_quiz_shows_its_right_choice_later_and_all_reasons_in_the_notes():
    choices = (Choice("Yes, `x`", "It is so in truth.", right=True), Choice("No", "It is not so at all."))
    question = slides.ask(Question("1q1", "1.1 Tokens", "one", 1, "Is it?", choices))
    letter = "ab"[[choice.right for choice in Question("1q1", "", "", 1, "", choices).shuffled()].index(True)]
    assert question.body.startswith("Is it?\n\n1. ") and question.answer == f"**{letter}** It is so in truth."
    assert "It is not so at all." in question.notes and "It is not so" not in question.body + question.answer


# ---------------------------------------------------------------- the course's own


@pytest.fixture(scope="module")
def tagged_cells() -> dict[str, list[dict]]:
    read = {chapter: pages.read_notebook(notebook_of(chapter))["cells"] for chapter in CHAPTERS}
    tags = {SHOWN, SHOWN_OUTPUT}
    return {name: [c for c in cells if tags & set(c["metadata"].get("tags", []))] for name, cells in read.items()}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_slides_for_a_lecture(chapter, tagged_cells):
    assert 20 <= len(tagged_cells[chapter]) <= 35


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_on_a_slide_is_short_narrow_and_means_the_same(chapter, tagged_cells):
    for cell in tagged_cells[chapter]:
        if cell["cell_type"] == "code" and SHOWN in cell["metadata"]["tags"]:
            shown = narrow(cell["source"])
            assert len(shown.splitlines()) <= MOST_LINES and max(map(len, shown.splitlines())) <= MOST_COLUMNS, shown
            assert ast.dump(ast.parse(shown)) == ast.dump(ast.parse(cell["source"]))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_slide_is_empty_and_every_cell_that_shows_only_its_output_has_one(chapter, tagged_cells):
    _, made = slides.deck(notebook_of(chapter))
    assert not [slide for slide in made if not slide.body]
    assert all(c.get("outputs") for c in tagged_cells[chapter] if SHOWN_OUTPUT in c["metadata"]["tags"])
    assert sum(slide.section == "Recall" and bool(slide.answer) for slide in made) >= 8
    assert sum(slide.heading == "What do you think?" for slide in made) >= 4


# ---------------------------------------------------------------- as a page


@pytest.fixture(scope="module")
def decks(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx_revealjs")
    folder = tmp_path_factory.mktemp("decks") / "slides"
    assert slides.main(["--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def browser(decks):
    with chromium.offline("the slides") as browser:
        yield browser
        assert not browser.complaints


def show(browser, path: Path, query: str = "") -> None:
    browser.window(1280, 720)
    address = f"{path.as_uri()}?{query}"
    told = f"location.href.startsWith({address!r}) && document.readyState == 'complete' && Reveal.isReady()"
    browser.open(address, ready=told)


def test_a_deck_loads_nothing_from_elsewhere(decks):
    names = sorted(path.name for path in decks.iterdir())
    assert names == [*(f"{chapter[:4]}.html" for chapter in CHAPTERS), "index.html"]
    loaded = [url for page in read_pages(decks).values() for url in page.loaded]
    assert len(loaded) > 30 and all(url.startswith("data:") for url in loaded)
    style = re.search(r"<style>(.*?)</style>", (decks / "ch03.html").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert "@import" not in style and re.findall(r"url\((.{5})", style).count("data:") == style.count("url(")


TOO_LARGE = """Reveal.getSlides().filter(slide => {
  slide.style.display = "block";
  return slide.scrollHeight > 720 || slide.scrollWidth > 1280;
}).map(slide => [slide.scrollHeight, slide.scrollWidth, slide.textContent.trim().slice(0, 60)])"""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_slide_fits_the_screen_and_every_picture_has_a_text(browser, decks, chapter):
    show(browser, decks / f"{chapter[:4]}.html", chapter)
    assert browser.run("Reveal.getTotalSlides()") >= 10
    assert browser.run(TOO_LARGE) == []
    assert browser.run("[...document.images].filter(image => image.alt.length < 10).length") == 0


def test_on_a_phone_the_slides_stand_below_each_other_and_are_scrolled_with_the_keyboard_too(browser, decks):
    browser.window(390, 844, phone=True)
    address = f"{(decks / 'ch03.html').as_uri()}?phone"
    browser.open(
        address, ready=f"location.href == {address!r} && window.Reveal?.isReady() && document.body.tabIndex == 0"
    )
    tops = browser.run("[...document.querySelectorAll('section')].map(slide => slide.getBoundingClientRect().top)")
    apart = [low - high for high, low in zip(tops, tops[1:4])]  # of slides without an answer that comes last
    assert len(apart) == 3 and all(100 < gap < 300 for gap in apart)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_the_check_sees_a_slide_that_is_too_tall(browser, decks):
    show(browser, decks / "ch03.html", "tall")
    browser.run("Reveal.getSlides()[2].insertAdjacentHTML('beforeend', '<p>more</p>'.repeat(20))")
    assert len(browser.run(TOO_LARGE)) == 1


def test_a_key_goes_on_and_an_answer_comes_last(browser, decks):
    show(browser, decks / "ch03.html", "keys")
    last = "Reveal.slide(Reveal.getTotalSlides() - 1, 0, -1)"
    browser.run(last)
    assert browser.run("document.querySelectorAll('section.present .answer.visible').length") == 0
    browser.press("ArrowRight", 39)
    browser.wait("document.querySelectorAll('section.present .answer.visible').length == 1")
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)
    browser.wait("Reveal.getIndices().h == Reveal.getTotalSlides() - 2")


def test_the_speaker_has_notes(browser, decks):
    show(browser, decks / "ch03.html", "speaker")
    browser.run("Reveal.slide(2)")
    notes = browser.run("Reveal.getSlideNotes()")
    assert len(notes.split()) > 60 and "<p>" in notes


def test_a_deck_is_printed_a_slide_on_each_page(decks):
    if chromium.program() is None:
        pytest.skip("there is no Chromium here to print with")
    content = slides.print_page(chromium.program(), decks / "ch03.html", query="print").read_bytes()
    n_slides = (decks / "ch03.html").read_text(encoding="utf-8").count("<section>")
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", content)) == n_slides
    (decks / "ch03.pdf").unlink()


# ---------------------------------------------------------------- the command


def test_one_chapter_is_made_and_the_page_of_all_lists_what_is_there(tmp_path, capsys):
    pytest.importorskip("sphinx_revealjs")
    assert slides.main(["3", "--output", str(tmp_path)]) == 0
    assert slides.main(["ch02", "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"ch02.html", "ch03.html", "index.html"}
    assert re.findall(r'href="(ch\d\d).html">', (tmp_path / "index.html").read_text()) == ["ch02", "ch03"]
    assert "the key S shows your notes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, reason",
    [(["ch09"], "there is no chapter 'ch09'"), (["--output", "FULL"], "holds other files than decks made earlier")],
)
def test_what_it_cannot_do_is_said_in_one_sentence(words, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slides, "require_packages", lambda *_: None)
    (tmp_path / "letter.txt").write_text("dear")
    assert slides.main([str(tmp_path) if word == "FULL" else word for word in words]) == 1
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_without_a_browser_or_without_reveal_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slides, "NEEDED", ("no_such_package",))
    assert slides.main(["--output", str(tmp_path)]) == 1
    assert "start it as python course.py slides, which installs them" in capsys.readouterr().err
    monkeypatch.setattr(slides, "NEEDED", ())
    monkeypatch.setattr("shared.commands.site.BROWSERS", ())
    monkeypatch.setattr("shared.commands.site.BROWSERS_BY_PATH", ())
    assert slides.main(["--pdf", "--output", str(tmp_path)]) == 1
    assert "install one, or leave out --pdf" in capsys.readouterr().err
