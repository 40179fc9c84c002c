"""`python course.py fetch NAME`: download an optional text or model; everything the course teaches works without.

`data/catalogue.json` pins each file's size and sha256. A download goes into a `.part` file, is taken up again where it
stopped, and is moved to its final place only when every byte is right. Only the standard library is used.
"""

import errno
import hashlib
import http.client
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from data.files import replace
from shared.commands.command_line import CommandParser, command

ATTEMPTS = 4  # for each address
TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 18  # bytes
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TRY_LATER = (408, 425, 429, 500, 502, 503, 504)


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
        raise FetchError(_disk_trouble(target, entry, error)) from error
    raise FetchError(
        f"{entry['path']} could not be downloaded: {'; '.join(dict.fromkeys(reasons))}. Try again later, or put the "
        f"file into {target.parent} yourself; it has {entry['bytes']:,} bytes"
    )


def _inside(folder: Path, path: str) -> Path:
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
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


def _disk_trouble(target: Path, entry: dict, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full: free {entry['bytes'] / 1e6:,.0f} MB for {target}, then start again; it goes on"
    return f"{target} cannot be written ({error.strerror or error}): choose a folder of your own for the course"


def read_catalogue(path: Path) -> dict[str, dict]:
    """Return name -> title, license and files.

    Args:
        path: the catalogue, a JSON file.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def overview(catalogue: dict[str, dict], cache: Path) -> str:
    """Return a line for each name: size, license, and whether it is here.

    Args:
        catalogue: what `read_catalogue` returned.
        cache: where downloads go.
    """
    lines = ["Optional downloads (everything the course teaches works without them):"]
    for name, item in catalogue.items():
        here = all((cache / file["path"]).is_file() for file in item["files"])
        size = sum(file["bytes"] for file in item["files"]) / 1e6
        lines.append(f"  {name:<18} {size:8,.1f} MB  {'here' if here else '    '}  {item['title']} ({item['license']})")
    return "\n".join(lines)


def _show(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r  {text:<76}", end="", flush=True)


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
        for entry in catalogue[name]["files"]:
            print(f"{fetch_file(entry, CACHE_DIR, say=_show)} is here and right.")
    except KeyboardInterrupt:
        print(f"\nStopped; python course.py fetch {name} goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
