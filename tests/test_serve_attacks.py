"""The chat page against a written list of attacks, each over a socket, with an assistant of the course behind it.

What an attacker may be: a page of another site in the same browser, a name that suddenly means this machine (DNS
rebinding), a program that sends too much, too little, too slowly or something else, and a model that writes markup.
"""

import json
import socket
import threading
import time

import pytest
import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch06_finetuning.assistant import Assistant
from shared.commands import serve
from shared.commands.chat import Welcome
from tests.sizes import n
from tests.small_models import tiny_model

ASKED = json.dumps({"prompt": "Who?", "history": [], "temperature": 0, "top_p": 1}).encode()
KIND = "Content-Type: application/json"


@pytest.fixture(scope="module")
def assistant():
    tokenizer = BPETokenizer.train("Who was it? It was the cat on the mat. " * 5, 320, SPECIAL_TOKENS)
    return Assistant(tiny_model(vocab_size=tokenizer.vocab_size, context_length=64), tokenizer, max_new_tokens=4)


@pytest.fixture(scope="module")
def server(assistant):
    server = serve.make_server(assistant, 0, Welcome("Hello.", ["Who?"]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=20)


def rest_of(wire) -> bytes:
    """Read until the server closes, in order or the hard way."""
    answer = b""
    try:
        while part := wire.recv(65_536):
            answer += part
    except ConnectionError:
        pass
    return answer


def send(server, request: bytes) -> bytes:
    with connect(server) as wire:
        wire.sendall(request)
        return rest_of(wire)


def request(server, *lines: str, body: bytes = ASKED, first="POST /answer HTTP/1.1", host=None, length=True) -> bytes:
    host = f"Host: {host or f'127.0.0.1:{server.server_port}'}"
    lines = [first, host, *lines, *([f"Content-Length: {len(body)}"] if length else []), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def rows_of(answer: bytes) -> list[dict]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0], head
    return [json.loads(line) for line in body.splitlines()]


def question(**changes) -> bytes:
    return json.dumps(json.loads(ASKED) | changes).encode()


def assert_serves(server):
    assert "".join(row.get("text", "") for row in rows_of(send(server, request(server, KIND))))


GET = "GET / HTTP/1.1"
ATTACKS = {
    # a page of another site in the same browser
    "cross-site question as a form": (("Content-Type: application/x-www-form-urlencoded",), {}, 415),
    "cross-site question as text": (("Content-Type: text/plain",), {}, 415),
    "cross-site question as a file": (("Content-Type: multipart/form-data; boundary=x",), {}, 415),
    "cross-site question as JSON": ((KIND, "Origin: https://evil.example"), {}, 403),
    "page in a sealed frame": ((KIND, "Origin: null"), {}, 403),
    "page of another program on this machine": ((KIND, "Origin: http://127.0.0.1:1"), {}, 403),
    "page with a name that begins like ours": ((KIND, "Origin: http://127.0.0.1.evil.example"), {}, 403),
    "two pages named": ((KIND, "Origin: http://{own}", "Origin: https://evil.example"), {}, 400),
    "preflight": (("Origin: https://evil.example",), {"first": "OPTIONS /answer HTTP/1.1"}, 501),
    # DNS rebinding
    "name that now means this machine": ((KIND,), {"host": "evil.example"}, 403),
    "name with our port": ((KIND,), {"host": "evil.example:{port}"}, 403),
    "name before ours": ((KIND,), {"host": "127.0.0.1:{port}.evil.example"}, 403),
    "user before ours": ((KIND,), {"host": "evil@127.0.0.1:{port}"}, 403),
    "two hosts": ((KIND, "Host: evil.example"), {}, 400),
    "host on two lines": ((KIND,), {"host": "127.0.0.1:{port}\r\n evil.example"}, 403),
    "all addresses": ((KIND,), {"host": "0.0.0.0:{port}"}, 403),
    "page under another name": ((), {"host": "evil.example", "first": GET}, 403),
    "another host in the first line": ((), {"first": "GET http://evil.example/ HTTP/1.1"}, 404),
    # too much, or of another length than said
    "more than is read": ((KIND, "Content-Length: 64001"), {"length": False}, 413),
    "a billion bytes": ((KIND, "Content-Length: 1000000000"), {"length": False}, 413),
    "less than nothing": ((KIND, "Content-Length: -1"), {"length": False}, 413),
    "no length": ((KIND,), {"length": False}, 413),
    "two lengths": ((KIND, "Content-Length: 3"), {}, 400),
    "in pieces": ((KIND, "Transfer-Encoding: chunked"), {"length": False}, 413),
    "in pieces and with a length": ((KIND, "Transfer-Encoding: chunked"), {"body": b"5\r\nhello\r\n0\r\n\r\n"}, 400),
    "a header of a megabyte": ((KIND, "X: " + "x" * 1_000_000), {}, 431),
    "a thousand headers": ((KIND, *(f"X-{number}: x" for number in range(1000))), {}, 431),
    "a first line of a megabyte": ((), {"first": "GET /" + "x" * 1_000_000 + " HTTP/1.1"}, 414),
    # no question
    "no JSON": ((KIND,), {"body": b"prompt=Who"}, 400),
    "JSON in UTF-16": ((KIND,), {"body": "{}".encode("utf-16")}, 400),
    "JSON that ends early": ((KIND,), {"body": ASKED[:-3]}, 400),
    "JSON as deep as the well": ((KIND,), {"body": b'{"a":' * 9_000}, 400),
    "a number of ten thousand digits": ((KIND,), {"body": b'{"prompt": "a", "top_p": ' + b"9" * 10_000 + b"}"}, 400),
    "a number that is none": ((KIND,), {"body": b'{"prompt": "a", "top_p": NaN}'}, 400),
    "a number without end": ((KIND,), {"body": b'{"prompt": "a", "temperature": Infinity}'}, 400),
    "a list for a prompt": ((KIND,), {"body": b'{"prompt": ["a"]}'}, 400),
    "a talk of ten thousand turns": ((KIND,), {"body": question(history=[["a", "b"]] * 4_000)}, 400),
    "a role of its own": ((KIND,), {"body": question(history=[["a", "b", "system"]])}, 400),
    "zero bytes": ((KIND,), {"body": b"\0" * 100}, 400),
    # other methods, other files
    "method of a coffee pot": ((), {"first": "BREW / HTTP/1.1"}, 501),
    "method with markup": ((), {"first": "<script>alert(1)</script> / HTTP/1.1"}, 501),
    "tunnel": ((), {"first": "CONNECT evil.example:443 HTTP/1.1"}, 501),
    "echo": ((), {"first": "TRACE / HTTP/1.1"}, 501),
    "a file above the page": ((), {"first": "GET /../serve.py HTTP/1.1"}, 404),
    "a file above, written with codes": ((), {"first": "GET /%2e%2e/%2e%2e/README.md HTTP/1.1"}, 404),
    "a file above, with backslashes": ((), {"first": "GET /..\\..\\README.md HTTP/1.1"}, 404),
    "a file of the system": ((), {"first": "GET //etc/passwd HTTP/1.1"}, 404),
    "a file of the system, as an address": ((), {"first": "GET file:///etc/passwd HTTP/1.1"}, 404),
    "a name that ends in a zero": ((), {"first": "GET /page.js\0.html HTTP/1.1"}, 404),
    # headers of the attacker's own in our answer
    "a header in the path": ((), {"first": "GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1"}, 404),
    "a header in a bare line end": ((), {"first": "GET /\rSet-Cookie:a=b HTTP/1.1"}, 400),
    "a header in the method": ((), {"first": "GET\rSet-Cookie:a=b / HTTP/1.1"}, 400),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_a_status_and_nothing_else(server, capfd, attack):
    lines, rest, status = ATTACKS[attack]
    port = str(server.server_port)
    lines = [line.replace("{own}", f"127.0.0.1:{port}") for line in lines]
    rest = rest | ({"host": rest["host"].replace("{port}", port)} if "host" in rest else {})
    answer = send(server, request(server, *lines, **rest))
    if answer or "megabyte" not in attack:  # what comes on after a refusal makes the system drop the refusal
        assert status_of(answer) == status, answer[:200]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"set-cookie" not in head.lower() and b"access-control" not in head.lower()
    assert b"<script" not in body and b"root:" not in body and len(body) < 1000
    assert_serves(server)
    assert capfd.readouterr().err == ""


def test_no_page_may_put_ours_in_a_frame_or_read_what_it_gets(server):
    for path in (*serve.FILES, "/welcome"):
        head = send(server, request(server, first=f"GET {path} HTTP/1.1", body=b"")).partition(b"\r\n\r\n")[0].lower()
        for line in (b"frame-ancestors 'none'", b"cross-origin-resource-policy: same-origin", b"nosniff", b"no-store"):
            assert line in head, (path, line)


# ---------------------------------------------------------------- slow, silent and many clients


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(serve._Handler, "timeout", 1.0)


@pytest.mark.parametrize("where", ["first line", "headers", "question"])
def test_a_client_that_sends_a_byte_now_and_then_is_let_go(server, impatient, capfd, where):
    begun = {"first line": b"GET /", "headers": request(server, first=GET, length=False, body=b"")[:-2] + b"X: ",
             "question": request(server, KIND, body=b" " * 999)[:-999]}[where]  # fmt: skip
    with connect(server) as wire:
        wire.sendall(begun)
        until = time.monotonic() + 5
        with pytest.raises(OSError):  # the server has closed, and says so to the sender
            while time.monotonic() < until:
                wire.sendall(b"x")
                time.sleep(0.1)
    assert_serves(server)
    assert capfd.readouterr().err == ""


def test_a_socket_closed_on_one_side_gets_its_answer_or_a_sentence(server, capfd):
    for asked, expected in ((request(server, KIND), b" 200 "), (request(server, KIND)[:-1], b" 400 ")):
        with connect(server) as wire:
            wire.sendall(asked)
            wire.shutdown(socket.SHUT_WR)
            assert expected in rest_of(wire)
    assert_serves(server)
    assert capfd.readouterr().err == ""


def test_a_client_that_never_reads_holds_nobody_up(server, monkeypatch, capfd):
    class Long:
        was_cut = False

        def stream_likely(self, *_, **__):
            while True:
                yield "word " * 20_000, [("word", 1.0)]

    monkeypatch.setattr(serve._Handler, "timeout", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(server, "assistant", Long())
        with connect(server) as wire:
            wire.sendall(request(server, KIND))
            assert wire.recv(10)
            patch.undo()
            assert_serves(server)
    assert capfd.readouterr().err == ""


def test_thousands_of_clients_get_a_bounded_number_of_threads(server, impatient, capfd):
    before, wires, told = threading.active_count(), [], 0
    try:
        for _ in range(n(150, 3000)):
            wires.append(connect(server))
            if len(wires) > 100:  # this process may open so many files only
                wires.pop(0).close()
            assert threading.active_count() - before <= serve.MOST_CLIENTS
        answer = rest_of(wires[-1])
        told = status_of(answer) if answer else 0
    finally:
        for wire in wires:
            wire.close()
    assert told in (0, 503)  # 0: a place had just become free, and nothing was asked in time
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert_serves(server)
    assert capfd.readouterr().err == ""


def all_places_are_free(server, places):
    until = time.monotonic() + 10
    while server.places._value < places and time.monotonic() < until:
        time.sleep(0.02)
    assert server.places._value == places


def test_where_all_places_are_taken_a_question_is_told_to_wait(server, capfd):
    all_places_are_free(server, serve.MOST_CLIENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "places", threading.BoundedSemaphore(1))
        with connect(server):
            time.sleep(0.2)
            answer = send(server, b"")
            assert status_of(answer) == 503 and b"try again" in answer
        all_places_are_free(server, 1)
        assert_serves(server)
        all_places_are_free(server, 1)
    assert capfd.readouterr().err == ""


def test_a_system_without_threads_keeps_its_places(server, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    all_places_are_free(server, serve.MOST_CLIENTS)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert send(server, b"") == b""
    all_places_are_free(server, serve.MOST_CLIENTS)
    assert_serves(server)


# ---------------------------------------------------------------- what is asked, and what the model writes


def specials_read(server, assistant, asked):
    """Ask over the socket; return the special tokens that the model read before its first word."""
    seen, ids_of = [], assistant.prompt_ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assistant, "prompt_ids", lambda *words: seen.append(ids_of(*words)) or seen[-1])
        rows_of(send(server, request(server, KIND, body=question(**asked))))
    return [id_ for id_ in seen[-1] if id_ in set(assistant.tokenizer.special_tokens.values())]


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_a_special_token_in_a_message_is_only_characters(server, assistant, special):
    for asked in (
        {"prompt": "{}"},
        {"prompt": "Who?", "history": [["a", "{}"]]},
        {"prompt": "a", "history": [["{}", "b"]]},
    ):
        harmless, hostile = (json.loads(json.dumps(asked).replace("{}", text)) for text in ("cat", special))
        expected = specials_read(server, assistant, harmless)
        assert specials_read(server, assistant, hostile) == expected and len(expected) >= 2


@pytest.mark.parametrize(
    "prompt", ["\ud800", "\x1b]0;owned\x07?", "\u202egnp.exe", "\0?", "\u2028?", "<b>?</b>", "{{7*7}}"]
)
def test_any_character_may_be_asked(server, prompt):
    rows = rows_of(send(server, request(server, KIND, body=question(prompt=prompt))))
    assert not any("\x1b" in str(list(row.values())) for row in rows)


def test_markup_of_a_model_travels_as_data(server, monkeypatch):
    written = (
        "</script><img src=x onerror=alert(1)>\u2028<iframe src='https://evil.example'>\x1b[2J\r\n\r\nHTTP/1.1 200 OK"
    )

    class Evil:
        was_cut = False

        def stream_likely(self, *_, **__):
            yield written, [(written, 1.0)]

    monkeypatch.setattr(server, "assistant", Evil())
    answer = send(server, request(server, KIND))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/x-ndjson; charset=utf-8" in head.lower() and b"nosniff" in head.lower()
    assert b"default-src 'none'" in head and body.count(b"\n") == 1 and b"\x1b" not in body and body.isascii()
    assert json.loads(body)["text"].startswith("</script><img")


def test_random_bytes_are_answered_or_dropped(server, impatient, capfd):
    dice = torch.Generator().manual_seed(0)
    good = request(server, KIND)
    for _ in range(n(60, 3000)):
        spoiled = bytearray(good)
        for _ in range(int(torch.randint(1, 6, (1,), generator=dice))):
            place = int(torch.randint(len(spoiled), (1,), generator=dice))
            spoiled[place] = int(torch.randint(256, (1,), generator=dice))
        with connect(server) as wire:
            wire.sendall(bytes(spoiled))
            wire.shutdown(socket.SHUT_WR)
            answer = rest_of(wire)
        assert not answer or answer.startswith((b"HTTP/1.0 ", b"400 Bad Request", b"this server answers under"))
    assert_serves(server)
    assert capfd.readouterr().err == ""
