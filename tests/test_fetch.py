"""Downloads against a local server that misbehaves in every way: nothing wrong ever reaches the final place."""

import hashlib
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared.commands import fetch
from shared.commands.fetch import FetchError, fetch_file, overview, read_catalogue
from tests.sizes import n

CONTENT = random.Random(0).randbytes(50_000)
ENTRY = {"path": "set/file.bin", "bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `faults` holds what goes wrong in each of the next answers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.asked = [], []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"

    def handle_error(self, request, client_address):
        """A client that goes away is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        fault = self.server.faults.pop(0) if self.server.faults else "none"
        getattr(self, f"answer_{fault}")()

    def begin(self) -> int:
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0

    def send(self, body: bytes, code: int | None = None, length: int | None = None, **headers):
        begin = self.begin()
        self.send_response(code or (206 if begin else 200))
        if begin and code is None:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_none(self):
        self.send(CONTENT[self.begin() :])

    def answer_cut(self):
        rest = CONTENT[self.begin() :]
        self.send(rest[: len(rest) // 2], length=len(rest))
        self.close_connection = True

    def answer_reset(self):
        self.send(b"", length=10)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def answer_nothing(self):
        self.connection.close()
        self.close_connection = True

    def answer_flipped(self):
        rest = bytearray(CONTENT[self.begin() :])
        rest[len(rest) // 2] ^= 1
        self.send(bytes(rest))

    def answer_page(self):
        self.send(PAGE, code=200, Content_Type="text/html; charset=utf-8")

    def answer_disguised_page(self):
        self.send(PAGE + b" " * (len(CONTENT) - len(PAGE)), code=200, Content_Type="application/octet-stream")

    def answer_short_page(self):
        self.send(PAGE, code=200, Content_Type="application/octet-stream")

    def answer_empty(self):
        self.send(b"", code=200)

    def answer_too_long(self):
        self.send(CONTENT + b"more", code=200)

    def answer_no_range(self):
        self.send(CONTENT, code=200)

    def answer_other_range(self):
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - 7))
        self.end_headers()
        self.wfile.write(CONTENT[7:])

    def answer_bad_range(self):
        self.send(b"", code=416)

    def answer_busy(self):
        self.send(b"", code=503, Retry_After="0")

    def answer_too_many(self):
        self.send(b"", code=429)

    def answer_error(self):
        self.send(b"oops", code=500)

    def answer_missing(self):
        self.send(b"no", code=404)

    def answer_forbidden(self):
        self.send(b"no", code=403)

    def answer_downgrade(self):
        self.send(b"", code=302, Location="http://example.org/file.bin")

    def answer_loop(self):
        self.server.faults.insert(0, "loop")
        self.send(b"", code=302, Location=self.server.address)

    def answer_garbage(self):
        self.wfile.write(b"not http at all\r\n\r\n")
        self.close_connection = True

    def answer_silence(self):
        time.sleep(1.0)
        self.close_connection = True


PASSING = ["cut", "reset", "nothing", "flipped", "no_range", "other_range", "bad_range", "busy", "too_many", "error",
           "garbage", "silence", "empty"]  # fmt: skip
FINAL = {  # fault -> what the message says
    "page": "HTML page",
    "short_page": "HTML page",
    "disguised_page": "HTML page",
    "too_long": "more than",
    "missing": "404",
    "forbidden": "403",
    "downgrade": "not an HTTPS address",
    "loop": "302",
}


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, folder, urls=None, **options):
    settings = {"pause": 0.0, "timeout": 0.3, **options}
    return fetch_file({**ENTRY, "urls": urls or [server.address]}, folder, **settings)


def test_a_download_arrives_whole_and_is_not_repeated(server, tmp_path):
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None]
    assert not list(tmp_path.rglob("*.part"))


def test_a_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults = ["cut"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_later_call_takes_the_part_file_up(server, tmp_path):
    server.faults = ["cut", "missing"]
    with pytest.raises(FetchError, match="404"):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_tried_again(server, tmp_path, fault):
    server.faults = ["cut", fault] if "range" in fault else [fault]  # a range is only asked for after a cut
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) >= 2


@pytest.mark.parametrize("fault", FINAL)
def test_a_fault_that_stays_is_named_and_leaves_nothing(server, tmp_path, fault):
    server.faults = [fault] * 10
    with pytest.raises(FetchError, match=FINAL[fault]):
        get(server, tmp_path, attempts=2)
    assert not (tmp_path / ENTRY["path"]).exists()


@pytest.mark.parametrize("fault", PASSING)
def test_tries_are_bounded(server, tmp_path, fault):
    server.faults = [fault] * 50
    try:
        assert get(server, tmp_path, attempts=3, timeout=0.2).read_bytes() == CONTENT
    except FetchError:
        assert not (tmp_path / ENTRY["path"]).exists()
    assert len(server.asked) <= 3


def test_the_second_address_is_tried_when_the_first_fails(server, tmp_path):
    server.faults = ["page"]
    assert get(server, tmp_path, urls=[server.address, server.address]).read_bytes() == CONTENT


@pytest.mark.parametrize("seed", range(n(20, 200)))
def test_whatever_goes_wrong_no_wrong_file_is_ever_there(server, tmp_path, seed):
    choice = random.Random(seed)
    server.faults = choice.choices([f for f in [*PASSING, *FINAL, "none"] if f not in ("silence", "loop")], k=6)
    part = tmp_path / (ENTRY["path"] + ".part")
    if choice.random() < 0.5:  # what an earlier, broken call has left
        part.parent.mkdir(parents=True)
        part.write_bytes(choice.randbytes(choice.choice([0, 10, len(CONTENT), len(CONTENT) + 5])))
    target = tmp_path / ENTRY["path"]
    try:
        get(server, tmp_path)
    except FetchError:
        assert not target.exists()
    else:
        assert target.read_bytes() == CONTENT


def test_a_damaged_file_at_its_place_is_replaced(server, tmp_path):
    target = tmp_path / ENTRY["path"]
    target.parent.mkdir()
    target.write_bytes(b"damaged")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_plain_http_is_refused_beyond_this_machine(tmp_path):
    with pytest.raises(FetchError, match="not an HTTPS address"):
        get(None, tmp_path, urls=["http://example.org/file.bin"])


def test_no_server_at_all_is_named(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/file.bin"
    with pytest.raises(FetchError, match="the network failed"):
        get(None, tmp_path, urls=[address], attempts=2)


def test_a_path_out_of_the_cache_is_refused(tmp_path):
    with pytest.raises(FetchError, match="leaves the folder"):
        fetch_file({**ENTRY, "path": "../outside", "urls": []}, tmp_path)


def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(FetchError, match="the disk is full"):
        get(server, tmp_path)
    assert not (tmp_path / ENTRY["path"]).exists()


def test_the_catalogue_pins_size_hash_license_and_https():
    from data.paths import DATA_DIR

    catalogue = read_catalogue(DATA_DIR / "catalogue.json")
    assert {"gpt2-124M", "the-verdict"} <= set(catalogue)
    for item in catalogue.values():
        assert item["title"] and item["license"]
        for entry in item["files"]:
            assert entry["bytes"] > 0 and len(entry["sha256"]) == 64
            assert entry["urls"] and all(address.startswith("https://") for address in entry["urls"])


def test_the_overview_says_what_is_here(tmp_path):
    catalogue = {"thing": {"title": "A thing", "license": "CC0", "files": [{**ENTRY, "urls": []}]}}
    assert "here" not in overview(catalogue, tmp_path).splitlines()[1]
    (tmp_path / "set").mkdir()
    (tmp_path / ENTRY["path"]).write_bytes(CONTENT)
    assert "here" in overview(catalogue, tmp_path).splitlines()[1]


def test_the_command_names_what_there_is(capsys):
    assert fetch.main(["no-such-thing"]) == 1
    assert "name one of" in capsys.readouterr().err
    assert fetch.main([]) == 0
    assert "gpt2-124M" in capsys.readouterr().out
