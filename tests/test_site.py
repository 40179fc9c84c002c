"""Claims about `python course.py site`: what it works out from the files, a small course, and the real one."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from shared.commands import site
from shared.site import pages, quiz
from tests import chromium

ROOT = Path(__file__).resolve().parent.parent
RECAP = r"""## Recap

| word | in code | symbol |
|---|---|---|
| {word}, and more | `a\|b` | $x$ |
| never said | | |
"""
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
)


MORE = "## Two commands\n\n[questions](shared/questions.md)"  # what pages of the site link to


def markdown(text: str) -> dict:
    return {"cell_type": "markdown", "id": f"m{abs(hash(text)) % 10**8}", "metadata": {}, "source": text}


def figure(source: str) -> dict:
    output = {"output_type": "display_data", "metadata": {}, "data": {"image/png": PICTURE, "text/plain": "<Figure>"}}
    return {"cell_type": "code", "id": f"c{abs(hash(source)) % 10**8}", "metadata": {}, "source": source,
            "execution_count": 1, "outputs": [output]}  # fmt: skip


def write_notebook(path: Path, *cells: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    told = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture
def small(tmp_path):
    """A course of two chapters, the first with a side room and exercises."""
    root = tmp_path / "small"
    first, second = root / "ch01_one", root / "ch02_two"
    to_second = "[later](../ch02_two/two.ipynb#2.1-A-*mask*,-or-not?)".replace("*", "")
    write_notebook(
        first / "one.ipynb",
        markdown(f"# 1 · One\n\n**A claim.** See {to_second} and [all data](../data)."),
        markdown("## 1.1 Tokens\n\nA token is a piece: $\\frac{1}{2}$.\n\n<details><summary>Answer</summary>\n\n"
                 "```python\nprint(1)\n```\n\n</details>"),
        figure('figure, ax = new_axes("Less is more", xlabel="steps")\nax.set_ylabel(f"loss of {name}")'),
        markdown(RECAP.format(word="token")),
    )  # fmt: skip
    write_notebook(first / "side.ipynb", markdown("# 1 · Side"))
    write_notebook(first / "exercises.ipynb", markdown("# 1 · Exercises\n\n## 1.1 Tokens\n\nCount them."))
    write_notebook(first / "one.mine-2026-01-01.ipynb", markdown("# Mine"))
    write_notebook(
        second / "two.ipynb", markdown("# 2 · Two"), markdown("## 2.1 A *mask*, or not?\n\nNo."),
        markdown(RECAP.format(word="mask")),
    )  # fmt: skip
    links = "[a](ch01_one/one.ipynb) [b](ch01_one/side.ipynb) [c](ch02_two/two.ipynb) [a](ch01_one/one.ipynb)"
    (root / "README.md").write_text(f"# Small\n\n{links}\n\n{MORE}\n", encoding="utf-8")
    (root / "data").mkdir()
    (root / "shared" / "site").mkdir(parents=True)
    (root / "shared" / "questions.md").write_text("# Questions\n\n- [1.1](../ch01_one/one.ipynb#1.1-Tokens)\n")
    (root / "shared" / "site" / "glossary.md").write_text("# Glossary\n")
    return root


# ---------------------------------------------------------------- from the files


def test_a_heading_is_named_as_github_names_it():
    assert pages.anchor("2.1 A mask, or not?") == "21-a-mask-or-not"
    assert pages.anchor("3.4 The key–value cache") == "34-the-keyvalue-cache"


def test_the_chapters_come_in_the_readmes_order_with_the_exercises_last_and_without_a_learners_copies(small):
    assert pages.chapters(small) == {
        "ch01_one": ["ch01_one/one", "ch01_one/side", "ch01_one/exercises"],
        "ch02_two": ["ch02_two/two"],
    }


def test_links_to_headings_and_to_folders_are_mended(small):
    mended = pages.mend_links("[x](a.ipynb#2.1-A-mask,-or-not%3F) [d](../data) [e](one.ipynb)", small / "ch01_one")
    assert mended == "[x](a.ipynb#21-a-mask-or-not) d [e](one.ipynb)"


def test_a_figure_is_told_by_its_title_and_axes(small):
    assert pages.figure_texts(pages.read_notebook(small / "ch01_one" / "one.ipynb")) == [
        "Figure: Less is more; steps; loss of …"
    ]


@pytest.mark.parametrize("source", ["show(picture)", "%matplotlib inline\nplot(", "ax.set_title(f'{x}')"])
def test_a_figure_without_words_says_where_to_look(source):
    told = pages.figure_texts({"cells": [figure(source)]})
    assert told == ["Figure; the text around it says what to see"]


def test_the_glossary_leads_back_to_section_and_recap(small):
    glossary = pages.glossary(small)
    assert glossary.count("never said\n") == 1
    token = glossary[glossary.index("token, and more") :]
    assert token.splitlines()[1] == "  in code `a|b`; $x$"
    assert "[1.1 Tokens](/ch01_one/one.ipynb#11-tokens) · [recap of One](/ch01_one/one.ipynb#recap)" in token
    assert glossary.index("mask, and more") < glossary.index("never said") < glossary.index("token, and more")
    assert "[recap of One](/ch01_one/one.ipynb#recap) · [recap of Two](/ch02_two/two.ipynb#recap)" in glossary


def test_a_word_is_looked_for_in_headings_then_in_prose_then_in_code():
    first = markdown("# 1 · One\n\nA loss.\n\n## 1.1 First\n\nA mask and a seed.")
    told = {
        "cells": [
            first,
            figure("plot(hide(5))"),
            markdown("## 1.2 The mask\n\nIt hides."),
            markdown("## Recap\n\nA loss."),
        ]
    }
    assert pages.taught_in(told, "mask, or none", "`hide`") == ["1.2 The mask"]
    assert pages.taught_in(told, "a seed", "") == ["1.1 First"]
    assert pages.taught_in(told, "hidden part", "`hide(n)`, `n`") == ["1.1 First"]
    assert pages.taught_in(told, "loss", "") == []


def test_a_symbol_of_the_glossary_that_is_a_formula_is_written_as_one():
    plain = re.sub(r"`[^`\n]*`|\$[^$\n]*\$|\]\([^)\n]*\)", "", pages.glossary(ROOT))
    assert not re.findall(r".*(?:\^|_\{).*", plain)


def test_every_notebook_of_the_course_has_words_in_the_glossary():
    listed = pages.glossary(ROOT)
    narratives = [page for group in pages.chapters(ROOT).values() for page in group if not page.endswith("exercises")]
    assert len(narratives) >= 15
    assert not [page for page in narratives if f"(/{page}.ipynb#recap)" not in listed]


ASKED = """[[question]]
id = "1q1"
section = "1.1 Tokens"
notebook = "one"
goal = 1
ask = "What is `x < y`?"
choices = [
    { text = "a <b> of `code`", why = "It compares `x` and y.", right = true },
    { text = "nothing", why = "It has a value." },
]
"""


def ask_in(root: Path) -> Path:
    """Give the first chapter of a small course a quiz."""
    path = root / "shared" / "teaching" / "quiz" / "ch01.toml"
    path.parent.mkdir(parents=True)
    path.write_text(ASKED, encoding="utf-8")
    return path


def test_a_quiz_is_listed_behind_the_exercises_of_its_chapter_where_there_is_one(small):
    assert "Quiz" not in pages.contents(small)
    ask_in(small)
    first, second = pages.contents(small).split(":caption: ")[1:3]
    assert first.index("Exercises </ch01_one/exercises>") < first.index("Quiz </shared/teaching/quiz/ch01>")
    assert "Quiz" not in second


def test_a_choice_is_folded_around_its_reason_and_its_signs_stay_signs(small):
    told = quiz.page(ask_in(small), "ch01_one")
    assert told.startswith("# Quiz of chapter 1\n") and "What is `x < y`?" in told
    right = '<strong class="right">Right.</strong> It compares <code>x</code> and y.'
    assert f"<details><summary>a &lt;b&gt; of <code>code</code></summary><p>{right}</p></details>" in told
    assert "<summary>nothing</summary><p><strong>Wrong.</strong> It has a value.</p>" in told
    assert "[1.1 Tokens](/ch01_one/one.ipynb#11-tokens)" in told and "Several" not in told
    assert "*Several choices are right.*" in quiz.page(several_right(ask_in(small / "other")), "ch01_one")


def several_right(path: Path) -> Path:
    row = '    { text = "both", why = "It is, too.", right = true },\n]'
    path.write_text(path.read_text(encoding="utf-8").replace("\n]", f"\n{row}"), encoding="utf-8")
    return path


# ---------------------------------------------------------------- the command


def test_without_its_packages_it_says_how_to_get_them(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(site, "NEEDED", ("sphinx_of_nobody",))
    assert site.main(["--output", str(tmp_path / "new")]) == 1
    told = capsys.readouterr().err
    assert "made with sphinx_of_nobody" in told and "python course.py site, which installs" in told
    assert len(told.splitlines()) == 1 and not (tmp_path / "new").exists()


def test_a_folder_with_other_files_is_left_alone(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(site, "NEEDED", ())
    (tmp_path / "letter.txt").write_text("mine")
    assert site.main(["--output", str(tmp_path)]) == 1
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_printing_asks_for_a_browser_before_any_work(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(site, "NEEDED", ())
    monkeypatch.setattr(site.shutil, "which", lambda name: None)
    monkeypatch.setattr(site, "BROWSERS_BY_PATH", ())
    assert site.main(["--pdf", "--output", str(tmp_path / "new")]) == 1
    assert "none is here: install one, or leave out --pdf" in capsys.readouterr().err


# ---------------------------------------------------------------- pages that were made


class Page(HTMLParser):
    """What a check needs of a page: its ids, its links, what it loads by itself, and its pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.ids, self.links, self.loaded, self.pictures = path, set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append(given)
        if tag != "a":
            self.loaded += [given[name] for name in ("src", "href", "srcset", "poster", "action") if given.get(name)]


def made(folder: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts}


def broken_links(site_pages: dict[Path, Page]) -> list[str]:
    wrong = []
    for path, page in site_pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.is_file() and (not parts.fragment or target.suffix != ".html" or parts.fragment == "top" or
                                          unquote(parts.fragment) in site_pages[target].ids)  # fmt: skip
            if not there:
                wrong.append(f"{path.name}: {link}")
    return wrong


def from_outside(folder: Path) -> list[str]:
    """Return what the pages and style sheets of a folder would load from elsewhere."""
    found = [f"{page.path.name}: {url}" for page in made(folder).values() for url in page.loaded
             if re.match(r"(https?:)?//", url)]  # fmt: skip
    for path in folder.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        found += re.findall(r"""(?:@import\s*|url\()\s*['"]?((?:https?:)?//[^'")]+)""", text)
    return found


@pytest.fixture
def small_site(small, tmp_path):
    pytest.importorskip("myst_nb")
    site.build(small, tmp_path / "site", strict=True)
    return tmp_path / "site"


def test_a_small_course_becomes_a_site(small_site):
    site_pages = made(small_site)
    assert {path.relative_to(small_site).as_posix() for path in site_pages} >= {
        "index.html", "README.html", "ch01_one/one.html", "ch01_one/exercises.html", "shared/questions.html",
        "shared/site/glossary.html",
    }  # fmt: skip
    assert not list(small_site.rglob("*.mine-*"))
    assert not broken_links(site_pages) and not from_outside(small_site)
    one = (small_site / "ch01_one" / "one.html").read_text(encoding="utf-8")
    assert re.search(r'href="\.\./ch02_two/two\.html#[\w-]*a-mask-or-not"', one)
    assert "<mfrac>" in one and 'alt="Figure: Less is more; steps; loss of …"' in one
    assert re.search(r"<details><summary>Answer</summary>.*print.*</details>", one, re.DOTALL)
    assert (small_site / "_sources" / "ch01_one" / "one.ipynb").is_file() and "_sources/ch01_one/one.ipynb" in one
    assert ">Exercises</a>" in one and "Chapter 1</span>" in one


def test_a_notebook_says_where_it_can_be_run_and_the_download_is_as_it_was_written(small, small_site):
    one = (small_site / "ch01_one" / "one.html").read_text(encoding="utf-8")
    assert re.search(
        r'class="run-it[^>]*>.*?href="\.\./README\.html#two-commands".*?>ch01_one/one\.ipynb<', one, re.DOTALL
    )
    assert (small_site / "_sources/ch01_one/one.ipynb").read_bytes() == (small / "ch01_one/one.ipynb").read_bytes()


def test_a_quiz_becomes_a_page_that_leads_to_its_section(small, tmp_path):
    pytest.importorskip("myst_nb")
    ask_in(small)
    site.build(small, tmp_path / "site", strict=True)
    told = (tmp_path / "site/shared/teaching/quiz/ch01.html").read_text(encoding="utf-8")
    assert told.count("<details><summary>") == 2 and "Quiz of chapter 1" in told
    assert re.search(r'href="\.\./\.\./\.\./ch01_one/one\.html#[\w-]*tokens"', told)
    assert "teaching/quiz/ch01.html" in (tmp_path / "site/ch01_one/exercises.html").read_text(encoding="utf-8")
    assert not broken_links(made(tmp_path / "site"))


def test_a_second_build_goes_into_the_same_folder(small, small_site):
    site.require_folder(small_site)
    (small / "README.md").write_text("# Small\n\n[two](ch02_two/two.ipynb)\n", encoding="utf-8")
    site.build(small, small_site)
    assert "ch02_two/two.html" in (small_site / "README.html").read_text(encoding="utf-8")


def test_the_checks_see_a_broken_link_and_a_request_to_elsewhere(small_site):
    page = small_site / "README.html"
    text = page.read_text(encoding="utf-8")
    page.write_text(f'{text}<a href="no.html">x</a><a href="#no">x</a><img src="https://elsewhere.example/x.png">')
    (small_site / "own.css").write_text("@import 'https://elsewhere.example/a.css'; p { background: url(//b.example) }")
    assert broken_links(made(small_site)) == ["README.html: no.html", "README.html: #no"]
    assert len(from_outside(small_site)) == 3


def test_a_formula_that_cannot_be_shown_is_shown_as_written_with_a_warning(small, tmp_path, capfd):
    pytest.importorskip("myst_nb")
    write_notebook(small / "ch02_two" / "two.ipynb", markdown(r"# 2 · Two" + "\n\n" + r"Here $\nonsense<1$."))
    site.build(small, tmp_path / "site")
    assert r"the formula \nonsense<1 cannot be shown" in capfd.readouterr().err
    assert r"<code>\nonsense&lt;1</code>" in (tmp_path / "site/ch02_two/two.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="could not make the site"):
        site.build(small, tmp_path / "strict", strict=True)


# ---------------------------------------------------------------- the whole course, as a reader meets it


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    pytest.importorskip("myst_nb")
    folder = tmp_path_factory.mktemp("whole") / "site"
    site.build(ROOT, folder, strict=True)
    return folder


@pytest.fixture(scope="module")
def browser(whole):
    with chromium.offline("the pages") as browser:
        yield browser


CHAPTER = "ch03_attention/attention.html"
QUIZ = "shared/teaching/quiz/ch03.html"
PAGES = ["README.html", CHAPTER, "ch03_attention/exercises.html", "shared/site/glossary.html", QUIZ]
if not (ROOT / QUIZ).with_suffix(".toml").is_file():  # a copy for learners
    PAGES.remove(QUIZ)
VIEWS = {"phone": (390, False), "light": (1280, False), "dark": (1280, True)}


def show(browser, folder: Path, page: str, view: str = "light") -> None:
    width, dark = VIEWS[view]
    browser.window(width, 900, dark=dark, phone=width < 500)
    address = (folder / page.partition("?")[0]).as_uri() + "?" + (page.partition("?")[2] or view)
    browser.open(address, ready=f"location.href == {json.dumps(address)} && document.readyState == 'complete'")


def test_no_link_is_broken_and_nothing_comes_from_outside(whole):
    site_pages = made(whole)
    assert len(site_pages) >= 25
    assert not broken_links(site_pages)
    assert not from_outside(whole)


def test_every_picture_has_a_text(whole):
    pictures = [picture for page in made(whole).values() for picture in page.pictures]
    assert len(pictures) >= 100
    said = [given.get("alt", "") for given in pictures]
    assert not [text for text in said if len(text) < 10 or text.endswith((".png", ".svg"))]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_never_scrolled_sideways_and_has_the_parts_a_screen_reader_looks_for(browser, whole, page, view):
    show(browser, whole, page, view)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("[...document.querySelectorAll('.cell_input pre')].every(p => p.scrollWidth <= p.clientWidth)")
    assert browser.run("document.documentElement.lang") == "en" and browser.run("document.title")
    count = "[...document.querySelectorAll('{}')].filter(part => part.checkVisibility()).length"
    assert browser.run(count.format("main")) == 1 and browser.run(count.format("h1")) == 1
    boxes, reachable = "article pre, article table", "box => box.scrollWidth <= box.clientWidth || box.tabIndex == 0"
    assert browser.run(f"[...document.querySelectorAll('{boxes}')].every({reachable})")


PALE = """(() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const part = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = color => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * part(color[i] / 255), 0);
  const ground = box => {
    const color = box ? numbers(getComputedStyle(box).backgroundColor) : [255, 255, 255];
    return color.length == 3 || color[3] == 1 ? color : ground(box.parentElement);
  };
  const says = box => [...box.childNodes].some(node => node.nodeType == 3 && node.textContent.trim());
  return [...document.querySelectorAll("body *")].filter(box => box.checkVisibility() && says(box)).filter(box => {
    const style = getComputedStyle(box);
    const [more, less] = [light(numbers(style.color)), light(ground(box))].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= (style.fontWeight >= 700 ? 18.66 : 24);
    return (more + 0.05) / (less + 0.05) < (large ? 3 : 4.5);
  }).map(box => box.outerHTML.slice(0, 150));
})()"""
NAMELESS = """[...document.querySelectorAll("a[href], button, input, summary")].filter(box => box.checkVisibility() &&
  !(box.textContent.trim() || box.ariaLabel || box.title || box.labels?.length || box.querySelector("img[alt]")))
  .map(box => box.outerHTML.slice(0, 150))"""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", PAGES)
def test_every_text_stands_out_from_its_ground_and_every_control_has_a_name(browser, whole, page, view):
    show(browser, whole, page, view)
    assert browser.run(PALE) == []
    assert browser.run(NAMELESS) == []


def test_the_checks_see_a_pale_text_and_a_control_without_a_name(browser, whole):
    show(browser, whole, PAGES[0])
    browser.run("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: #999\">pale</p><button></button>')")
    assert len(browser.run(PALE)) == len(browser.run(NAMELESS)) == 1


AXE = """axe.run().then(said => said.violations.filter(rule => ["critical", "serious"].includes(rule.impact))
  .map(rule => [rule.id, rule.nodes[0].html]))"""


@pytest.mark.skipif("COURSE_AXE" not in os.environ, reason="COURSE_AXE names no axe.min.js")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_axe_finds_nothing_serious_on_any_page(browser, whole, width, dark):
    told, script = {}, Path(os.environ["COURSE_AXE"]).read_text(encoding="utf-8")
    pages = [path for path in sorted(whole.rglob("*.html")) if "_static" not in path.parts]
    pages.remove(whole / "index.html")  # it leads to another page at once
    for path in pages:
        browser.window(width, 900, dark=dark, phone=width < 500)
        address = f"{path.as_uri()}?axe{width}{dark}"
        browser.open(address, ready=f"location.href == {json.dumps(address)} && document.readyState == 'complete'")
        browser.run(script)
        told[path.relative_to(whole).as_posix()] = browser.run(AXE)
    assert len(pages) >= 30 and {page: said for page, said in told.items() if said} == {}


def test_a_button_has_its_color_at_once(browser, whole):
    show(browser, whole, PAGES[0], "dark")
    fading = "[...document.querySelectorAll('.btn')].map(button => getComputedStyle(button).transitionDuration)"
    assert set(browser.run(fading)) == {"0s"}


def test_a_search_answers_without_a_server(browser, whole):
    show(browser, whole, "search.html?q=induction+head")
    browser.wait("document.querySelectorAll('#search-results li a').length")
    links = browser.run("[...document.querySelectorAll('#search-results li a')].map(link => link.href)")
    assert any(CHAPTER in link for link in links)


def test_folded_answers_are_opened_for_printing_and_closed_again(browser, whole):
    show(browser, whole, CHAPTER)
    count = "document.querySelectorAll('details:not([open])').length"
    folded = browser.run(count)
    assert folded >= 12
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(count) == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(count) == folded


@pytest.mark.skipif(QUIZ not in PAGES, reason="this copy has no quizzes")
def test_reasons_of_a_quiz_are_folded_on_the_screen_and_open_in_print_without_a_script(browser, whole):
    show(browser, whole, QUIZ)
    seen = "[...document.querySelectorAll('ol.choices p')].map(reason => reason.checkVisibility())"
    on_screen, high = browser.run(seen), "document.querySelector('ol.choices').clientHeight"
    before = browser.run(high)
    assert len(on_screen) >= 36 and not any(on_screen)
    browser.send("Emulation.setEmulatedMedia", media="print")  # no event beforeprint, so no script opens them
    printed, after = browser.run(seen), browser.run(high)
    browser.send("Emulation.setEmulatedMedia", media="")
    assert len(printed) == len(on_screen) and all(printed) and after > before


def test_code_and_tables_longer_than_a_page_are_parted_in_print(browser, whole):
    show(browser, whole, CHAPTER)
    browser.send("Emulation.setEmulatedMedia", media="print")
    kept = "[...document.querySelectorAll('{}')].filter(box => getComputedStyle(box).breakInside != 'auto').length"
    whole_pieces = [browser.run(kept.format(what)) for what in ("div.highlight, div[class*=highlight-]", "table")]
    at_ends = browser.run(kept.format("div.cell_input, article img"))  # these go to the next page where they fit there
    browser.send("Emulation.setEmulatedMedia", media="")
    assert whole_pieces == [0, 0] and at_ends > 50


WRAPPED = """[...document.querySelectorAll(".cell_input .c1")].filter(part => part.getClientRects().length > 1)
  .map(part => part.getClientRects()[1].left - part.closest("pre").getBoundingClientRect().left)"""


@pytest.mark.parametrize("view", ["phone", "light"])
def test_a_line_of_code_that_goes_on_below_does_not_look_like_a_new_one(browser, whole, view):
    show(browser, whole, CHAPTER, view)
    lefts = browser.run(WRAPPED)  # of the second lines of long comments
    assert len(lefts) >= 3 and min(lefts) > 60


def test_a_figure_lies_on_white_in_the_dark(browser, whole):
    show(browser, whole, CHAPTER, "dark")
    color = "getComputedStyle(document.querySelector('{}')).backgroundColor"
    assert browser.run(color.format(".cell_output img")) == "rgb(255, 255, 255)"
    assert browser.run(color.format("body")) != "rgb(255, 255, 255)"


def test_a_page_is_printed_with_its_structure(small_site):
    if chromium.program() is None:
        pytest.skip("there is no Chromium here to print with")
    printed = site.print_page(chromium.program(), small_site / "ch01_one" / "one.html")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF") and b"/StructTreeRoot" in content and b"/Outlines" in content
