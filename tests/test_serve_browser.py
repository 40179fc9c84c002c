"""Claims about the page of `python course.py serve`, each tried in a headless Chromium as a person would try it."""

import http.server
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from shared.commands import serve
from shared.commands.chat import Welcome
from shared.commands.chat_abilities import Ability, Group
from shared.commands.chat_sureness import Sureness
from tests import chromium

if chromium.program() is None:
    pytest.skip("there is no Chromium here to open the page with", allow_module_level=True)

ANSWERS, LAST = "document.querySelectorAll('.it')", "[...document.querySelectorAll('.it')].at(-1)"
SURENESS = Sureness((0.5, 0.95), {"fairly sure": (30, 40)})
GROUPS = [
    Group(
        "Words", [Ability("Count", [["How many? one"], ["How many? one, two"]]), Ability("<b>And?</b>", [["A", "B"]])]
    )
]
IDLE = "document.getElementById('stop').hidden"


class Slow:
    """Stands in for an assistant: notes what it was asked and waits in the middle of each answer until it may go on."""

    was_cut, first = False, [("It", 0.75), (" He", 0.25)]

    def __init__(self):
        self.may_go_on, self.asked, self.ended = threading.Event(), [], 0

    def turns_that_fit(self, prompt, history):
        return history[-3:] if prompt == "shorter" else history

    def stream_likely(self, prompt, history, **sampling):
        self.asked.append(SimpleNamespace(prompt=prompt, history=history, **sampling))
        if prompt == "too long":
            raise ValueError("the prompt takes 900 tokens, but at most 256 fit: shorten it")
        try:
            yield "It", self.first
            assert self.may_go_on.wait(30)
            others = [(" is", 0.9), ("the\n", 0.05), ("<|endoftext|>", 0.04)]
            yield f" was <img src=x onerror=alert(1)>{prompt}", others
            while prompt == "endless":
                time.sleep(0.01)
                yield " on", [(" on", 1.0)]
        finally:
            self.ended += 1


@pytest.fixture(scope="module")
def browser():
    with chromium.Chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """The open page, in front of an assistant of its own."""
    server = serve.make_server(Slow(), 0, Welcome("It knows little.", ["Who?", "<b>Where?</b>"]), SURENESS)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser.window()
    browser.complaints.clear()
    browser.server, browser.assistant, browser.url = server, server.assistant, f"http://127.0.0.1:{server.server_port}/"
    browser.open(browser.url, ready="document.querySelectorAll('#examples button').length == 2")
    browser.run("document.getElementById('settings').open = true")
    yield browser
    server.assistant.may_go_on.set()
    browser.open("data:,")
    server.shutdown()
    server.server_close()


def ask(page, prompt: str = "Who?") -> None:
    page.point("#prompt", click=True)
    page.type(prompt)
    page.press("Enter", 13, "\r")


def answered(page, prompt: str = "Who?") -> str:
    page.assistant.may_go_on.set()
    ask(page, prompt)
    page.wait(f"{IDLE} && {LAST}")
    return page.run(f"{LAST}.textContent")


def slide(page, name: str, value: float) -> None:
    move = f"slider.value = {value}, slider.dispatchEvent(new Event('input'))"
    page.run(f"(slider => ({move}))(document.getElementById('{name}'))")


def test_an_answer_is_shown_while_it_is_still_being_written(page):
    ask(page)
    page.wait(f"{ANSWERS}.length == 1 && {LAST}.textContent == 'It'")
    assert page.assistant.ended == 0 and not page.run(IDLE)
    page.assistant.may_go_on.set()
    page.wait(IDLE)
    assert page.run(f"{LAST}.textContent").startswith("It was ")


def test_nothing_that_is_asked_or_answered_becomes_part_of_the_page(page):
    told = answered(page, "<script>document.title = 'taken'</script>")
    assert told == "It was <img src=x onerror=alert(1)><script>document.title = 'taken'</script>"
    assert page.run("document.title") == "Your assistant"
    assert page.run("document.querySelectorAll('main img, main script, main b').length") == 0
    assert page.run("document.querySelectorAll('#examples button')[1].textContent") == "<b>Where?</b>"


def test_pointing_at_a_word_shows_what_else_could_stand_there(page):
    answered(page)
    assert page.run("document.getElementById('card').hidden")
    page.point(".it span:first-child")
    page.wait("!document.getElementById('card').hidden")
    assert page.run("document.getElementById('card').innerText").split() == (
        "100 draws here would give It 75 He 25 ← and → go through the words.".split()
    )
    bars = "[...document.querySelectorAll('#card .bar')].map(bar => bar.offsetWidth)"
    assert page.run(bars)[0] == pytest.approx(3 * page.run(bars)[1], rel=0.1)
    page.point("h1")
    page.wait("document.getElementById('card').hidden")


def test_the_keyboard_reaches_every_word(page):
    answered(page)
    page.run("document.querySelector('.under button').focus()")
    page.press("Enter", 13, "\r")
    assert page.run("document.activeElement == document.querySelector('.it span')")
    page.press("ArrowRight", 39)
    shown = page.run("document.getElementById('card').innerText").split("would give")[1].split()
    assert shown[:10] == "is 90 …the 5 (the end) 4 something else: 1".split()
    assert page.run("document.activeElement.getAttribute('aria-describedby')") == "card"
    page.press("Escape", 27)
    assert page.run("document.getElementById('card').hidden")


def test_the_sliders_and_the_box_decide_what_is_sent(page):
    answered(page, "one")
    first = page.assistant.asked[0]
    assert (first.temperature, first.top_p, first.history) == (0, 1, [])
    slide(page, "temperature", 1.2)
    slide(page, "top-p", 0.85)
    page.point("#remember", click=True)
    answered(page, "two")
    second = page.assistant.asked[1]
    assert (second.temperature, second.top_p) == (1.2, 0.85)
    assert [turn[0] for turn in second.history] == ["one"]
    shown = page.run("document.getElementById('sliders').innerText").split()
    assert shown[:4] == ["Temperature", "1.2", "Top-p", "0.85"]


def test_a_slider_is_moved_with_the_keyboard(page):
    page.run("document.getElementById('temperature').focus()")
    page.press("ArrowRight", 39)
    assert page.run("document.getElementById('temperature-shown').textContent") == "0.1"


def test_stop_ends_an_answer_on_the_page_and_in_the_server(page):
    page.assistant.may_go_on.set()
    ask(page, "endless")
    page.wait(f"{ANSWERS}.length && {LAST}.textContent.endsWith(' on on')")
    page.point("#stop", click=True)
    page.wait(IDLE)
    assert page.run("document.querySelector('.trouble')") is None
    assert answered(page, "next").endswith("next")  # so the server has let go of the endless one
    assert page.assistant.ended == 2


def test_a_new_chat_forgets_even_an_answer_in_the_middle(page):
    page.point("#remember", click=True)
    ask(page, "old")
    page.wait(f"{ANSWERS}.length")
    page.point("#again", click=True)
    assert page.run("document.getElementById('talk').childElementCount") == 0
    assert page.run("!document.getElementById('start').hidden")
    answered(page, "new")
    assert page.assistant.asked[-1].history == []


def test_the_page_says_what_this_assistant_is_good_for(page):
    assert page.run("document.getElementById('says').textContent") == "It knows little."
    assert not page.run("document.getElementById('remember').checked")
    page.point("#remember", click=True)
    assert "mixes them up" in page.run("document.getElementById('meaning').textContent")
    page.server.welcome = Welcome("It knows <b>much</b>.", ["One?", "Two?", "Three?"], remember=True)
    page.open(page.url, ready="document.querySelectorAll('#examples button').length == 3")
    assert page.run("document.getElementById('says').textContent") == "It knows <b>much</b>."
    assert page.run("document.getElementById('remember').checked")
    assert "mixes them up" not in page.run("document.getElementById('meaning').textContent")


def test_a_talk_that_outgrows_the_context_is_shortened_with_a_note(page):
    page.point("#remember", click=True)
    for number in range(5):
        answered(page, f"question {number}")
    assert answered(page, "shorter").endswith("shorter")
    note = "document.querySelector('.turn.note')"
    assert page.run(f"{note}.textContent").endswith("the talk goes on without its 2 oldest turns.")
    assert page.run(f"{note}.previousElementSibling.textContent") == "shorter"
    assert page.run("history.map(turn => turn[0])") == ["question 2", "question 3", "question 4", "shorter"]
    answered(page, "next")
    assert (
        len(page.assistant.asked[-1].history) == 4 and page.run("document.querySelectorAll('.turn.note').length") == 1
    )


def test_at_a_higher_temperature_a_word_that_was_drawn_is_named(page):
    slide(page, "temperature", 1.0)
    answered(page)
    page.point(".it span:last-child")
    assert "It drew was <img" in page.run("document.getElementById('card').innerText")


def test_below_an_answer_stands_how_sure_it_was(page):
    answered(page)
    assert page.run("document.querySelector('.under span').textContent") == (
        "Fairly sure: of 100 such answers, 75 were right."
    )
    slide(page, "temperature", 1.0)
    answered(page)
    assert page.run("[...document.querySelectorAll('.under span')].at(-1).textContent") == ""


def test_an_answer_that_was_cut_or_stopped_says_so(page):
    page.assistant.was_cut = True
    answered(page)
    told = "[...document.querySelectorAll('.under span')].at(-1).textContent"
    assert page.run(told) == "Cut off here: this is the longest answer it may give."
    ask(page, "endless")
    page.wait(f"{ANSWERS}.length == 2 && {LAST}.textContent.endsWith(' on on')")
    page.point("#stop", click=True)
    page.wait(IDLE)
    assert page.run(told) == "You stopped it here."


def test_where_no_word_had_the_majority_there_are_dots(page):
    page.assistant.first = [("It", 0.45), (" He", 0.3)]
    answered(page)
    assert page.run(f"[...{LAST}.children].map(span => span.className)") == ["torn", ""]


def offer_groups(page):
    page.server.welcome = Welcome("It knows.", [], remember=True, groups=GROUPS)
    page.open(page.url, ready="document.querySelectorAll('#examples button').length == 2")
    assert page.run("document.querySelector('#examples h2').textContent") == "Words"


def test_a_click_fills_in_an_example_and_another_click_another_one(page):
    offer_groups(page)
    for text in ("How many? one", "How many? one, two", "How many? one"):
        page.point("#examples button", click=True)
        assert page.run("document.getElementById('prompt').value") == text
        assert page.run("document.querySelectorAll('#examples [aria-pressed=true]').length") == 1
    assert "brings another one" in page.run("document.querySelector('[role=status]').textContent")
    assert page.assistant.asked == []
    page.assistant.may_go_on.set()
    page.press("Enter", 13, "\r")
    page.wait(f"{IDLE} && {ANSWERS}.length")
    assert page.assistant.asked[0].prompt == "How many? one"


def test_an_example_of_two_turns_goes_on_and_begins_a_talk(page):
    offer_groups(page)
    answered(page, "before")
    page.point("#show", click=True)
    page.point("#examples button:nth-of-type(2)", click=True)
    assert page.run("document.querySelectorAll('#examples b').length") == 0
    page.press("Enter", 13, "\r")
    page.wait(f"{IDLE} && document.getElementById('prompt').value == 'B'")
    page.press("Enter", 13, "\r")
    page.wait(f"{IDLE} && {ANSWERS}.length == 3")
    asked = [(one.prompt, [turn[0] for turn in one.history]) for one in page.assistant.asked]
    assert asked == [("before", []), ("A", []), ("B", ["A"])]
    assert page.run("document.querySelector('.turn.note').textContent").startswith("A new talk begins")


def test_the_examples_can_be_shown_during_a_talk(page):
    answered(page)
    shown = "!document.getElementById('start').hidden"
    assert not page.run(shown) and page.run("document.getElementById('show').ariaExpanded") == "false"
    page.point("#show", click=True)
    assert page.run(shown) and page.run("document.getElementById('show').ariaExpanded") == "true"


def test_a_long_talk_never_grows_too_large_to_send(page):
    page.point("#remember", click=True)
    page.run("history = Array(90).fill(['é'.repeat(4000), 'answer'])")
    assert answered(page, "é" * 4000).endswith("é")
    assert 0 < len(page.assistant.asked[0].history) < 20
    assert "too long to send" in page.run("document.querySelector('.turn.note').textContent")


def test_a_refusal_and_a_broken_answer_are_told_in_a_sentence(page):
    assert answered(page, "too long").endswith("at most 256 fit: shorten it")
    page.run("fetch = () => Promise.reject(new TypeError('no network'))")
    assert "still running in the terminal?" in answered(page)


def test_the_console_stays_empty(page):
    answered(page)
    page.point(".it span:first-child")
    page.run("document.querySelector('#again').click()")
    assert page.run("fetch('/icon.svg').then(icon => icon.status)") == 200
    assert page.complaints == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_window(page, width, dark):
    page.window(width, 844, dark=dark, phone=width < 500)
    answered(page, "w" * 300)
    page.point(".it span:last-child", click=True)
    edges = page.run("(box => [box.left, box.right])(document.getElementById('card').getBoundingClientRect())")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert edges[0] >= 0 and edges[1] <= width
    colors = page.run("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    ground, ink = (sum(map(int, re.findall(r"\d+", color))) for color in colors)
    assert abs(ground - ink) > 500 and (ground < ink) == dark


def test_another_name_for_this_machine_is_refused(page):
    """A page elsewhere may point its own name at this machine; the server must not take that for itself."""
    port = page.url.rsplit(":")[-1]
    page.open(f"http://elsewhere.example:{port}")
    assert "answers under 127.0.0.1 and localhost only" in page.run("document.body.innerText")


def test_another_page_can_neither_ask_nor_read(page):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"another page")

        def log_message(self, *_):
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    page.open(f"http://127.0.0.1:{other.server_port}/")
    body = '{"prompt": "stolen"}'
    for kind in ("application/json", "text/plain"):
        request = f"{{method: 'POST', headers: {{'Content-Type': '{kind}'}}, body: '{body}'}}"
        said = page.run(f"fetch('{page.url}answer', {request}).then(a => a.text(), error => error.name)")
        assert said == "TypeError"
    frame = f"Object.assign(document.body.appendChild(document.createElement('iframe')), {{src: '{page.url}'}})"
    page.run(f"new Promise(seen => {{ ({frame}).onload = () => seen() }})")
    assert any("frame-ancestors" in told for told in page.complaints)
    assert page.assistant.asked == []
    other.shutdown()
    other.server_close()


def test_the_command_serves_the_assistant_that_comes_with_the_course(browser):
    from ch06_finetuning.assistant import load_assistant

    command = [sys.executable, "-m", "shared.commands.serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[1]
        browser.window()
        browser.open(url, ready="document.querySelector('#examples button')")
        assert browser.run("document.querySelectorAll('#examples button').length") == 29
        browser.point("#examples button", click=True)
        prompt = browser.run("document.getElementById('prompt').value")
        browser.press("Enter", 13, "\r")
        browser.wait(f"{IDLE} && {ANSWERS}.length")
        assert browser.run(f"{LAST}.textContent") == load_assistant().reply(prompt)
        assert browser.run(f"{LAST}.childElementCount") > 1
    finally:
        process.terminate()
        process.wait(10)
