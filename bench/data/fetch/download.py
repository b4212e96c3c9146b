"""Downloads one file completely, resumes it after an interruption, and gives up after some attempts.

`bench.data.fetch` calls it. An interrupted download is kept as `FILE.part` and continued by HTTP Range.
`FILE.part.json` keeps the server's name of the version (ETag or date), so that a changed file is not appended to the
beginning of the old one. Only https is allowed, and plain http to this machine itself. The same holds for redirects.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from bench.util.files import decode_text, read_bytes, shown, write_atomic
from systems.errors import UserError

CHUNK = 1 << 20
TIMEOUT_S = 30  # longest wait for the next byte
SLOW_S, SLOW_BYTES = 60.0, 60_000  # a connection that brings less in that time counts as broken
ATTEMPTS = 5  # connections tried in a row without one new byte
CONNECTIONS = 100  # most connections for one file
RESTARTS = 3  # restarts from the first byte, if the server's data does not continue the partial file
MOST_BYTES = 1 << 36  # largest file
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

#: progress(file name, bytes so far, bytes in all or None)
ProgressCallback = Callable[[str, int, int | None], None]


def check_address(url: str) -> str:
    """Return the address if it is https, or http on this machine. Otherwise raise UserError."""
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname, parts.scheme
        _ = parts.port
    except ValueError:
        host, scheme = None, ""
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or not host or not (scheme == "https" or (scheme == "http" and host in _LOOPBACK)):
        raise UserError(f"{shown(url)!r} is not an https address; give one, or a local copy by --data-root")
    return url


class _SameRules(urllib.request.HTTPRedirectHandler):
    """Redirects may lead only to addresses that are allowed in the first place."""

    def redirect_request(self, request, response, code, message, headers, url):
        """Check the new address. Raises UserError if it is not allowed."""
        try:
            check_address(url)
        except UserError as error:
            raise UserError(f"{request.full_url} redirects to an address that is refused: {error}") from None
        if urlsplit(request.full_url).scheme == "https" and urlsplit(url).scheme != "https":
            raise UserError(f"{request.full_url} redirects from https to {shown(url)}; refused")
        return super().redirect_request(request, response, code, message, headers, url)


def _open(request: urllib.request.Request):
    opener = urllib.request.OpenerDirector()  # not build_opener, which also allows ftp, file and data
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), _SameRules(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener.open(request, timeout=TIMEOUT_S)


def download_file(url: str, part: Path, label: str, progress: ProgressCallback) -> None:
    """Download until `part` is as long as the server says. label: for `progress`. Raises UserError with the address."""
    check_address(url)
    idle, restarts, reason = 0, 0, ""
    for _ in range(CONNECTIONS):
        before = _length(part)
        try:
            if _transfer(url, part, label, progress):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{url} answers {error.code} {shown(error.reason)}; give a mirror with --url") from None
            reason = f"it answers {error.code} {shown(error.reason)}"
        except urllib.error.URLError as error:
            reason = shown(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = shown(error) or type(error).__name__
        after = _length(part)
        idle = 0 if after > before else idle + 1
        restarts += after < before
        if idle >= ATTEMPTS or restarts > RESTARTS:
            break
        time.sleep(min(2.0**idle, 8.0) / 8 if idle else 0)
    kept = f"; the {_length(part)} bytes so far are kept, run the command again to continue" if part.exists() else ""
    raise UserError(f"cannot fetch {url}: {reason}{kept}, or give a mirror with --url")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _transfer(url: str, part: Path, label: str, progress: ProgressCallback) -> bool:
    """One connection. True if `part` is complete, False if the connection ended early or was of no use."""
    done = _length(part)
    headers = {"User-Agent": "semantic-bench", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if validator := _recall(part):
            headers["If-Range"] = validator  # if the file has changed, the server sends all of it
    try:
        response = _open(urllib.request.Request(url, headers=headers))
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if (error.headers.get("Content-Range") or "").strip() == f"bytes */{done}":
            return True  # the part was already complete
        forget(part)
        return False
    with response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            start, total = _content_range(response.headers.get("Content-Range") or "")
            if start != done:
                forget(part)
                return False
        elif response.status == http.HTTPStatus.OK:
            done, length = 0, response.headers.get("Content-Length") or ""
            total = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
            _remember(part, response.headers.get("ETag") or response.headers.get("Last-Modified"))
        else:
            raise UserError(f"{url} answers {response.status}, neither the file nor an error; give a mirror with --url")
        if total is not None and total > MOST_BYTES:
            raise UserError(f"{url} wants to send {total} bytes, more than any set has; give a mirror with --url")
        began, at_start = time.monotonic(), done
        with part.open("ab" if done else "wb") as file:
            progress(label, done, total)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(label, done, total)
                if done > (MOST_BYTES if total is None else total):
                    raise UserError(f"{url} sends more bytes than it says; give a mirror with --url")
                if time.monotonic() - began > SLOW_S:
                    if done - at_start < SLOW_BYTES:
                        raise TimeoutError(f"fewer than {SLOW_BYTES} bytes in {SLOW_S:.0f} seconds")
                    began, at_start = time.monotonic(), done
    return total is None or done == total


def _content_range(text: str) -> tuple[int, int | None]:
    """ "bytes 5-9/10" -> (5, 10). (-1, None), which equals no offset, if it cannot be read."""
    try:
        span, _, total = text.removeprefix("bytes").strip().partition("/")
        return int(span.partition("-")[0][:16]), int(total[:16]) if total.isdigit() else None
    except ValueError:
        return -1, None


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, validator: str | None) -> None:
    """Keep the ETag or date of the file in `part`, so that a later Range continues the same file."""
    strong = validator if validator and not validator.startswith("W/") and _is_header(validator) else None
    write_atomic(_note(part), json.dumps({"validator": strong}).encode())


def _recall(part: Path) -> str | None:
    """The value that `_remember` kept. None if the note is missing, damaged, or no valid header."""
    try:
        validator = json.loads(decode_text(read_bytes(_note(part))))["validator"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return validator if isinstance(validator, str) and _is_header(validator) else None


def _is_header(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isascii() and text.isprintable()


def forget(part: Path) -> None:
    """Delete a partial file and its note."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
