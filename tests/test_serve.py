"""Claims about `python course.py serve`: it answers its own page on this machine, and nobody else."""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.commands import serve
from shared.commands.chat import Welcome
from shared.commands.chat_abilities import Ability, Group
from shared.commands.chat_sureness import Sureness

ROOT = Path(__file__).resolve().parent.parent
GROUPS = [Group("Words", [Ability("<b>Count</b>", [["How many?"], ["One", "And two?"]])])]
WELCOME = Welcome("It knows <b>little</b>.", ["Who?", "<b>Where?</b>"], True, groups=GROUPS, name="<i>Shop</i>")
QUESTION = {"prompt": "Who?", "history": [], "temperature": 0, "top_p": 1}


class Echo:
    """Stands in for an assistant: says what it was asked, with control characters and markup in it."""

    was_cut = False

    def turns_that_fit(self, prompt, history):
        return history[-2:]

    def stream_likely(self, prompt, history, **sampling):
        if prompt == "too long":
            raise ValueError("the prompt takes 900 tokens, but at most 256 fit: shorten it")
        yield "It", [("It", 0.9), ("He", 0.1)]
        yield f" was <b>{prompt}</b>\x1b[2J", [(" was", 1.0)]


@pytest.fixture(scope="module")
def server():
    server = serve.make_server(Echo(), 0, WELCOME)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server, method="POST", path="/answer", body=QUESTION, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request(method, path, content if method == "POST" else None, given)
    response = connection.getresponse()
    text = response.read().decode("utf-8")
    connection.close()
    return SimpleNamespace(status=response.status, text=text, headers=response.headers)


def test_it_listens_on_the_loopback_address_only(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("path", sorted(serve.FILES))
def test_the_page_and_its_parts_may_load_nothing_from_elsewhere(server, path):
    answer = ask(server, "GET", path)
    assert answer.status == 200 and len(answer.text) > 100
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in answer.headers
    text = answer.text.replace("http://www.w3.org/2000/svg", "")  # the name of the picture's format
    assert "http:" not in text and "https:" not in text and "innerHTML" not in text


def test_an_answer_comes_as_lines_of_text_with_likely_tokens(server):
    answer = ask(server)
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(row["text"] for row in rows) == "It was <b>Who?</b>[2J"
    assert rows[0]["likely"] == [["It", 0.9], ["He", 0.1]]
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")


def test_the_page_gets_its_welcome_as_data(server):
    answer = ask(server, "GET", "/welcome")
    told = json.loads(answer.text)
    assert told.pop("groups") == [
        {"title": "Words", "abilities": [{"label": "<b>Count</b>", "examples": [["How many?"], ["One", "And two?"]]}]}
    ]
    assert told.pop("name") == "<i>Shop</i>"
    assert told == {"says": "It knows <b>little</b>.", "examples": ["Who?", "<b>Where?</b>"], "remember": True}
    assert answer.headers["Content-Type"].startswith("application/json")


def test_a_talk_that_outgrows_the_context_is_shortened_with_a_note(server):
    turns = [[f"question {n}", "answer"] for n in range(5)]
    rows = [json.loads(line) for line in ask(server, body=QUESTION | {"history": turns}).text.splitlines()]
    note = "To fit into the model's context, the talk goes on without its 3 oldest turns."
    assert rows[0] == {"note": note, "forgotten": 3} and "text" in rows[1]
    rows = [json.loads(line) for line in ask(server, body=QUESTION | {"history": turns[:2]}).text.splitlines()]
    assert not [row for row in rows if "note" in row]


def test_a_question_that_trickles_in_is_given_up(server, monkeypatch):
    monkeypatch.setattr(serve._Handler, "timeout", 0.5)
    host = f"127.0.0.1:{server.server_port}"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as slow:
        head = f"POST /answer HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
        slow.sendall(head.encode())
        for _ in range(3):
            time.sleep(0.1)
            slow.sendall(b" ")
        assert b" 408 " in slow.recv(100)


SURENESS = Sureness((0.3, 0.95), {"fairly sure": (30, 40)})


def test_behind_an_answer_stands_how_sure_it_was_where_that_was_measured():
    told = {"sure": "Fairly sure: of 100 such answers, 75 were right."}
    assert list(serve.pieces(Echo(), "Who?", [], 0, 1, SURENESS))[-1] == told
    for drawn in (serve.pieces(Echo(), "Who?", [], 0.7, 1, SURENESS), serve.pieces(Echo(), "Who?", [], 0, 1)):
        assert not [piece for piece in drawn if "sure" in piece]


def test_an_answer_that_was_cut_says_so_and_not_how_sure_it_was():
    class Cut(Echo):
        was_cut = True

    last = list(serve.pieces(Cut(), "Who?", [], 0, 1, SURENESS))[-2:]
    assert "text" in last[0] and last[1] == {"cut": "Cut off here: this is the longest answer it may give."}


def test_an_answer_without_an_end_is_stopped(server, monkeypatch):
    monkeypatch.setattr(serve, "ANSWER_SECONDS", -1)
    rows = list(serve.pieces(Echo(), "Who?", [], 0, 1))
    assert len(rows) == 2 and "stopped after" in rows[1]["trouble"]


def test_a_second_question_waits_for_its_turn_and_is_then_refused(server, monkeypatch):
    monkeypatch.setattr(serve, "ANSWER_SECONDS", 0.1)
    with server.busy:
        assert ask(server).status == 503
    assert ask(server).status == 200


@pytest.mark.parametrize("port", ["taken", -1, 70_000])
def test_a_port_that_cannot_be_had_is_named_with_the_remedy(server, port):
    port = server.server_port if port == "taken" else port
    with pytest.raises(ValueError, match=rf"port {port} cannot be had \(.+\): take any free one with --port 0"):
        serve.make_server(Echo(), port, WELCOME)


def test_a_refused_prompt_is_answered_with_the_reason(server):
    answer = ask(server, body={"prompt": "too long"})
    assert "shorten it" in json.loads(answer.text)["trouble"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:80", ""])
def test_another_host_is_refused(server, host):
    assert ask(server, Host=host).status == 403
    assert ask(server, "GET", "/", Host=host).status == 403


def test_another_page_is_refused_and_its_own_is_not(server):
    assert ask(server, Origin="http://evil.example").status == 403
    assert ask(server, Origin="null").status == 403
    assert ask(server, Origin=f"http://127.0.0.1:{server.server_port}").status == 200


@pytest.mark.parametrize("path", ["/../course.py", "/page.py", "/%2e%2e/README.md", "/index.html?x", "//etc/passwd"])
def test_no_other_file_can_be_had(server, path):
    assert ask(server, "GET", path).status == 404


def test_a_form_of_another_page_cannot_ask(server):
    assert ask(server, Content_Type="text/plain").status == 415
    assert ask(server, Content_Type="application/x-www-form-urlencoded").status == 415


def test_too_much_is_refused_before_it_is_read(server):
    assert ask(server, body=b"x" * 10, Content_Length=str(serve.MOST_BYTES + 1)).status == 413
    assert ask(server, body=b"", Content_Length="-1").status == 413


@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b"\xff",
        b"[" * 5000,
        {},
        [],
        {"prompt": 3},
        {"prompt": "a", "history": "b"},
        {"prompt": "a", "history": [["b"]]},
        {"prompt": "a", "history": [["b", 3]]},
        {"prompt": "a", "history": [["b", "c"]] * 51},
        {"prompt": "a", "temperature": "hot"},
        {"prompt": "a", "temperature": -1},
        {"prompt": "a", "temperature": True},
        b'{"prompt": "a", "temperature": NaN}',
        {"prompt": "a", "top_p": 0},
    ],
)
def test_what_is_no_question_is_refused_in_a_sentence(server, bad):
    answer = ask(server, body=bad)
    assert answer.status == 400 and answer.text.startswith("this is no question")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_not_known(server, method):
    assert ask(server, method, "/").status == 501


# ---------------------------------------------------------------- clients that hang up, dawdle or speak otherwise

QUESTION_BYTES = json.dumps(QUESTION).encode()


def raw(server, request: bytes, *, read: bool = True) -> bytes:
    """Send bytes as they are; with `read` return the whole answer, otherwise hang up the hard way at once."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as wire:
        if not read:  # closing then sends a reset, and the server's next write fails
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.sendall(request)
        answer = b""
        while read and (part := wire.recv(65_536)):
            answer += part
        return answer


def head(server, *lines: str, first="POST /answer HTTP/1.1", host=None) -> bytes:
    return "\r\n".join([first, f"Host: {host or f'127.0.0.1:{server.server_port}'}", *lines, "", ""]).encode("latin-1")


JSON, LENGTH = "Content-Type: application/json", f"Content-Length: {len(QUESTION_BYTES)}"
HANG_UPS = {
    "before a refusal of the host": lambda s: head(s, host="evil.example"),
    "before a refusal of the kind": lambda s: head(s, "Content-Type: text/plain", "Content-Length: 1") + b"x",
    "before a refusal of the length": lambda s: head(s, JSON),
    "in the middle of the question": lambda s: head(s, JSON, "Content-Length: 500") + b"{",
    "before the answer": lambda s: head(s, JSON, LENGTH) + QUESTION_BYTES,
    "before a page": lambda s: head(s, first="GET /page.js HTTP/1.1"),
    "before a missing page": lambda s: head(s, first="GET /nothing HTTP/1.1"),
    "before an unknown method is named": lambda s: head(s, first="BREW / HTTP/1.1"),
    "in the middle of the first line": lambda s: b"POST /ans",
    "in the middle of the headers": lambda s: head(s, JSON)[:-6],
    "before a bad first line is named": lambda s: b"one two three four\r\n\r\n",
    "without a word": lambda s: b"",
}


@pytest.fixture
def slow_to_refuse(monkeypatch):
    """Give a client the time to hang up before the server writes."""
    send = serve._Handler._send

    def later(self, *arguments):
        time.sleep(0.05)
        send(self, *arguments)

    monkeypatch.setattr(serve._Handler, "_send", later)


@pytest.mark.parametrize("when", sorted(HANG_UPS))
def test_a_client_that_hangs_up_leaves_no_trace_and_no_lock(server, slow_to_refuse, capfd, when):
    for _ in range(3):
        raw(server, HANG_UPS[when](server), read=False)
    time.sleep(0.3)
    assert ask(server).status == 200
    told = capfd.readouterr()
    assert told.err == "" and told.out == ""


def test_a_client_that_hangs_up_in_the_middle_of_an_answer_frees_the_assistant(server, monkeypatch, capfd):
    class Endless:
        def stream_likely(self, prompt, history, **sampling):
            while True:
                time.sleep(0.01)
                yield "word " * 100, [("word", 1.0)]

    monkeypatch.setattr(server, "assistant", Endless())
    raw(server, head(server, JSON, LENGTH) + QUESTION_BYTES, read=False)
    monkeypatch.setattr(server, "assistant", Echo())
    assert ask(server).status == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((JSON, "Transfer-Encoding: chunked"), 413),
        ((JSON, "Content-Length: -5"), 413),
        ((JSON, "Content-Length: +5"), 413),
        ((JSON, "Content-Length: 5, 5"), 413),
        ((JSON, "Content-Length: 0x5"), 413),
        ((JSON, "Content-Length: \xb2"), 413),
        ((JSON, "Content-Length: " + "9" * 5_000), 413),
        ((JSON, "Content-Length: 0"), 400),
        ((JSON, "X: " + "y" * 70_000), 431),
        ((JSON, *(f"X-{n}: y" for n in range(200))), 431),
        (("Content-Type: application/json; charset=utf-8", LENGTH), 200),
        ((JSON, LENGTH, "Expect: 100-continue"), 200),
        ((LENGTH,), 415),
    ],
)
def test_every_other_way_to_send_a_question_gets_a_status(server, capfd, lines, status):
    answer = raw(server, head(server, *lines, "Connection: close") + QUESTION_BYTES)
    assert f" {status} ".encode() in answer
    assert ask(server).status == 200 and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"GET /\r\n\r\n", b"this server answers under"),  # HTTP/0.9 names no host
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", b" 414 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),  # a browser that tries https://
        (b"\r\n\r\n", b""),
    ],
)
def test_what_is_no_request_of_today_is_answered_and_said_nowhere(server, capfd, first, expected):
    assert expected in raw(server, first)
    assert capfd.readouterr().err == ""


def test_a_client_that_says_nothing_holds_up_nobody_and_is_let_go(server, monkeypatch, capfd):
    monkeypatch.setattr(serve._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as idle:
        idle.sendall(b"POST /answer HTTP/1.1\r\nHost:")
        assert ask(server).status == 200
        assert idle.recv(100) == b""  # closed by the server
    assert capfd.readouterr().err == ""


def test_many_questions_at_once_are_all_answered(server):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server).status)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12


def test_a_failure_of_ours_is_one_sentence_in_the_terminal_and_frees_the_assistant(server, monkeypatch, capfd):
    class Broken:
        def stream_likely(self, *_, **__):
            raise RuntimeError("the weights have gone")

    monkeypatch.setattr(server, "assistant", Broken())
    assert ask(server).text == ""
    monkeypatch.setattr(server, "assistant", Echo())
    assert ask(server).status == 200
    assert capfd.readouterr().err == "course.py serve: a request failed: RuntimeError: the weights have gone\n"


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another signal there")
@pytest.mark.parametrize("moment", ["idle", "answering"])
def test_ctrl_c_ends_the_server_in_a_word(tmp_path, moment):
    code = (
        "import sys, time\n"
        "from shared.commands import serve\n"
        "class Slow:\n"
        "    def stream_likely(self, *_, **__):\n"
        "        while True:\n"
        "            time.sleep(0.05)\n"
        "            yield 'word', [('word', 1.0)]\n"
        "serve.load_talker = lambda *_: Slow()\n"
        "serve.welcome_of = lambda *_: serve.Welcome('', [])\n"
        "sys.exit(serve.main(['--port', '0']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    address = re.search(r"127.0.0.1:(\d+)", process.stdout.readline())
    wire = socket.create_connection(("127.0.0.1", int(address[1])), timeout=10)
    if moment == "answering":
        wire.sendall(f"POST /answer HTTP/1.1\r\nHost: {address[0]}\r\n{JSON}\r\n{LENGTH}\r\n\r\n".encode())
        wire.sendall(QUESTION_BYTES)
        assert wire.recv(100)
    process.send_signal(signal.SIGINT)
    told, complaints = process.communicate(timeout=20)
    wire.close()
    assert (process.returncode, told, complaints) == (0, "\nStopped.\n", "")


@pytest.mark.parametrize("port", ["-1", "65536", "http", "1e3", ""])
def test_a_port_that_is_none_is_refused_before_the_assistant_is_loaded(port, capsys, monkeypatch):
    monkeypatch.setattr("shared.commands.serve.load_talker", lambda *_: pytest.fail("it was loaded"))
    assert serve.main(["--port", port]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"course.py serve: argument --port: {port!r} is no whole number from 0 to 65535")
    assert told.count("\n") == 1
