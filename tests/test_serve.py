"""Claims about `python course.py serve`: it answers its own page on this machine, and nobody else."""

import http.client
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from shared.commands import serve

QUESTION = {"prompt": "Who?", "history": [], "temperature": 0, "top_p": 1}


class Echo:
    """Stands in for an assistant: says what it was asked, with control characters and markup in it."""

    def stream_likely(self, prompt, history, **sampling):
        if prompt == "too long":
            raise ValueError("the prompt takes 900 tokens, but at most 256 fit: shorten it")
        yield "It", [("It", 0.9), ("He", 0.1)]
        yield f" was <b>{prompt}</b>\x1b[2J", [(" was", 1.0)]


@pytest.fixture(scope="module")
def server():
    server = serve.make_server(Echo(), 0, ["Who?", "<b>Where?</b>"])
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


def test_the_page_gets_its_examples_as_data(server):
    answer = ask(server, "GET", "/examples")
    assert json.loads(answer.text) == ["Who?", "<b>Where?</b>"]
    assert answer.headers["Content-Type"].startswith("application/json")


def test_a_question_that_trickles_in_is_given_up(server, monkeypatch):
    monkeypatch.setattr(serve, "READ_SECONDS", 0.2)
    host = f"127.0.0.1:{server.server_port}"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as slow:
        head = f"POST /answer HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
        slow.sendall(head.encode())
        time.sleep(0.3)
        slow.sendall(b" ")
        assert b" 408 " in slow.recv(100)


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
        serve.make_server(Echo(), port)


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
