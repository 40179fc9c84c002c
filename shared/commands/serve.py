"""`python course.py serve`: talk with the assistant in your browser, on this machine only.

The server listens on the loopback address and answers nobody else: it refuses requests that name another host (a page
that plays tricks with names) or come from another page, takes JSON of a limited size and within a limited time only,
serves a limited number of clients at once, lets the page load nothing from elsewhere, and sends text, never HTML.
Answers travel as they are written, one JSON object a line.
"""

import argparse
import errno
import io
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from shared.commands.chat import MODELS, Welcome, clean, forget, welcome_of
from shared.commands.chat_sureness import Sureness, sureness_of
from shared.commands.command_line import CommandParser, command, port_number
from shared.commands.own_models import load_talker
from shared.commands.published_models import add_precision, tell_memory

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from ch06_finetuning.assistant import Assistant

PAGE = Path(__file__).resolve().parent / "serve_page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
MOST_BYTES, MOST_TURNS, MOST_CLIENTS = 64_000, 50, 32
READ_SECONDS, ANSWER_SECONDS = 10, 60
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HUNG_UP = (ConnectionError, TimeoutError)  # the page was closed, or nothing more came from it
FULL = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"too many programs talk with this server at once; try again in a few seconds"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("serve", "Talk with the assistant in your browser.")
    options.add_argument("model", nargs="?", default="shipped", help=MODELS)
    told = "port on this machine (default 8765; 0: any free one)"
    options.add_argument("--port", type=port_number, default=8765, help=told)
    add_precision(options)
    return options


@command("serve")
def main(arguments: list[str] | None = None) -> int:
    """Load the assistant and serve its page until Ctrl-C; return the exit status."""
    settings = parser().parse_args(arguments)
    tell_memory(settings.model, settings.precision)
    assistant = load_talker(settings.model, settings.precision)
    welcome, sureness = welcome_of(assistant, settings.model), sureness_of(settings.model)
    server = make_server(assistant, settings.port, welcome, sureness)
    try:
        print(f"Open http://127.0.0.1:{server.server_port} in your browser. Ctrl-C ends it.", flush=True)
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nStopped.")
    finally:
        server.server_close()
    return 0


class _Server(ThreadingHTTPServer):
    assistant: "Assistant"
    busy: threading.Lock
    welcome: Welcome
    sureness: Sureness | None
    hosts: set[str]
    request_queue_size = 128  # clients that may wait for the server to look; the system lets more come again later
    allow_reuse_address = os.name != "nt"  # on Windows it would let two programs answer on one port

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.places = threading.BoundedSemaphore(MOST_CLIENTS)

    def process_request(self, request, client_address) -> None:
        """Give a client a thread of its own, or a sentence where all are taken."""
        if not self.places.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(0.1)
                request.sendall(FULL)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # the system gave no thread
            self.places.release()
            raise

    def process_request_thread(self, request, client_address) -> None:
        """Serve a client and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, *_) -> None:
        """Say in a sentence what went wrong with a request, unless the wire was closed at one of its ends."""
        error = sys.exception()
        closed_here = isinstance(error, OSError) and error.errno == errno.EBADF  # Ctrl-C, just as the page called
        if not closed_here and not isinstance(error, HUNG_UP):
            print(f"course.py serve: a request failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def make_server(
    assistant: "Assistant", port: int, welcome: Welcome, sureness: Sureness | None = None
) -> ThreadingHTTPServer:
    """Bind a server for one assistant to the loopback address.

    Args:
        assistant: the assistant to talk with.
        port: 0 to 65535; 0 takes any free one.
        welcome: what the page says before the first question.
        sureness: how sure its likeliest answers are; None says nothing about it.

    Raises:
        ValueError: the port cannot be had.
    """
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "it is not in 0..65535"
        raise ValueError(f"port {port} cannot be had ({reason}): take any free one with --port 0") from error
    server.assistant, server.busy, server.welcome, server.sureness = assistant, threading.Lock(), welcome, sureness
    server.hosts = {f"{name}:{server.server_port}" for name in ("127.0.0.1", "localhost")}
    return server


class _Refused(Exception):
    """A request that gets a status and a sentence instead of what it wants."""


class _Incoming(io.RawIOBase):
    """What a client sends, which must come within a time altogether, however slowly it trickles in."""

    def __init__(self, wire: socket.socket, seconds: float):
        self.wire, self.seconds, self.until = wire, seconds, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, place: "WriteableBuffer") -> int:
        if (left := self.until - time.monotonic()) <= 0:
            raise TimeoutError
        self.wire.settimeout(left)
        try:
            return self.wire.recv_into(place)
        finally:
            self.wire.settimeout(self.seconds)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_SECONDS  # for a request altogether, and for each wait while the answer is sent
    server_version, sys_version = "course", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Incoming(self.connection, self.timeout))

    def do_GET(self) -> None:
        self._guarded(self._send_file)

    def do_POST(self) -> None:
        self._guarded(self._answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request without repeating any of it; Python's own page would."""
        self._send(code, "text/plain", f"{code} {HTTPStatus(code).phrase}".encode("ascii"))

    def log_message(self, *_) -> None:
        """Keep the terminal quiet: what people ask is nobody's business."""

    def _guarded(self, serve) -> None:
        try:
            self._serve_or_refuse(serve)
        except HUNG_UP:
            self.close_connection = True

    def _serve_or_refuse(self, serve) -> None:
        try:
            if any(len(self.headers.get_all(name, [])) > 1 for name in ("Host", "Origin", "Content-Length")):
                raise _Refused(400, "a request names its host, its page and its length once")
            if self.headers.get("Host") not in self.server.hosts:
                raise _Refused(403, "this server answers under 127.0.0.1 and localhost only")
            if self.headers.get("Origin") not in {None, *(f"http://{host}" for host in self.server.hosts)}:
                raise _Refused(403, "this server answers its own page only")
            serve()
        except _Refused as refusal:
            status, sentence = refusal.args
            self._send(status, "text/plain", sentence.encode("utf-8"))

    def _send_file(self) -> None:
        if self.path == "/welcome":
            return self._send(200, "application/json", json.dumps(asdict(self.server.welcome)).encode("utf-8"))
        if self.path not in FILES:
            raise _Refused(404, "there is no such page")
        name, kind = FILES[self.path]
        self._send(200, kind, (PAGE / name).read_bytes())

    def _send(self, status: int, kind: str, content: bytes | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if content is not None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if content is not None:
            self.wfile.write(content)

    def _answer(self) -> None:
        if self.path != "/answer":
            raise _Refused(404, "there is no such page")
        question = self._question()
        if not self.server.busy.acquire(timeout=ANSWER_SECONDS):
            raise _Refused(503, "the assistant is busy; try again")
        try:
            self._send(200, "application/x-ndjson")
            for piece in pieces(self.server.assistant, **question, sureness=self.server.sureness):
                self.wfile.write(json.dumps(piece).encode("utf-8") + b"\n")
                self.wfile.flush()
        finally:
            self.server.busy.release()

    def _question(self) -> dict:
        """Read and check a question; everything in it is what it should be or is refused."""
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, "send a question as application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MOST_BYTES:
            raise _Refused(413, f"a question may take {MOST_BYTES:,} bytes, and must say how many it takes")
        try:
            return require_question(json.loads(self._read(int(length)).decode("utf-8")))
        except (ValueError, RecursionError) as error:
            raise _Refused(400, f"this is no question: {error}") from None

    def _read(self, length: int) -> bytes:
        try:
            return self.rfile.read(length)
        except TimeoutError:
            raise _Refused(408, f"a question must arrive within {READ_SECONDS} seconds") from None


def require_question(value: object) -> dict:
    """Take a question out of what was sent.

    Args:
        value: what JSON gave.

    Raises:
        ValueError: a part is missing or is not what it should be.
    """
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise ValueError("it needs a prompt, a text")
    history, numbers = value.get("history", []), (value.get("temperature", 0), value.get("top_p", 1))
    pairs = isinstance(history, list) and len(history) <= MOST_TURNS and all(map(_is_turn, history))
    if not pairs:
        raise ValueError(f"its history is not a list of at most {MOST_TURNS} pairs of texts")
    # True is a number to Python, and to nobody who sends a temperature
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError("temperature and top_p are numbers")
    if not 0 <= numbers[0] <= 2 or not 0 < numbers[1] <= 1:
        raise ValueError("temperature is 0 to 2, and top_p above 0 and at most 1")
    return {"prompt": value["prompt"], "history": history, "temperature": numbers[0], "top_p": numbers[1]}


def _is_turn(turn: object) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) and text for text in turn)


def pieces(
    assistant, prompt: str, history: list, temperature: float, top_p: float, sureness: Sureness | None = None
) -> Iterator[dict]:
    """Answer piece by piece: dictionaries with `text` and the likeliest tokens, with a `note` or with the `trouble`.

    A note comes first and says how many turns were `forgotten`, because the model's context is too short for them. Last
    comes where the answer was `cut`, or how `sure` it was.

    Args:
        assistant: who answers.
        prompt: what is asked; control characters are taken out.
        history: earlier (prompt, answer) pairs; the oldest may be taken out.
        temperature: 0 for the likeliest answer.
        top_p: share of the probability to draw from.
        sureness: how sure its likeliest answers are; None says nothing about it.
    """
    prompt, n_turns = clean(prompt), len(history)
    try:
        if history and (note := forget(assistant, prompt, history)):
            yield {"note": note, "forgotten": n_turns - len(history)}
        answer = assistant.stream_likely(prompt, history, temperature=temperature, top_p=top_p)
        yield from _written(assistant, answer, None if temperature else sureness)
    except ValueError as error:
        yield {"trouble": str(error)}


def _written(assistant, answer: Iterable, sureness: Sureness | None) -> Iterator[dict]:
    """The pieces of an answer, and what is to be said about it."""
    until, text = time.monotonic() + ANSWER_SECONDS, ""
    probabilities: list[float] = []
    for piece, likely in answer:
        text += clean(piece)
        probabilities.append(likely[0][1])
        yield {"text": clean(piece), "likely": [(clean(token), round(p, 4)) for token, p in likely]}
        if time.monotonic() > until:
            yield {"trouble": f"stopped after {ANSWER_SECONDS} seconds"}
            return
    if assistant.was_cut:
        from ch06_finetuning.assistant import CUT

        yield {"cut": f"{CUT.capitalize()}."}
    elif sureness and (told := sureness.sentence(text, probabilities)):
        yield {"sure": f"{told.capitalize()}."}


if __name__ == "__main__":
    sys.exit(main())
