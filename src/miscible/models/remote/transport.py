"""Parts of files over HTTP: bounded in bytes, time and redirects.

What a server says comes from strangers. No answer is read further than its caller asked for, the
token goes to the Hub's own address alone, and a server that ignores ranges is hung up on.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from miscible.errors import CheckpointError, ModelReferenceError
from miscible.models.formats.safetensors import PREFIX_BYTES, header_length

MAX_REDIRECTS = 5
SECONDS_TO_CONNECT = 15.0
SECONDS_OF_SILENCE = 30.0
SECONDS_AN_ANSWER = 300.0
ATTEMPTS = 3
_PAUSE = 0.5
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")


class RefusedError(ModelReferenceError):
    """The Hub answers, and does not give what was asked for.

    Args:
        status: of the answer.
        code: the Hub's word for it (``GatedRepo``, ``RepoNotFound``), empty if it has none.
    """

    def __init__(self, status: int, code: str, where: str) -> None:
        super().__init__(f"the Hub does not give this (HTTP {status}).", where=where)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a remote safetensors file.

    Attributes:
        content: prefix and JSON, as they stand in the file.
        total: size of the whole file.
    """

    content: bytes
    total: int


def read_whole(url: str, limit: int, where: str) -> bytes:
    """Return a small file.

    Raises:
        CheckpointError: if it is larger than *limit* bytes.
        RefusedError: if the server does not give it.
        ModelReferenceError: if no server answers.
    """
    with _answer(url, where, {}) as response:
        content = bytearray()
        for chunk in _in_time(response.iter_bytes(), where):
            content += chunk
            if len(content) > limit:
                raise CheckpointError("the file is too large to be believed.", where=where)
        return bytes(content)


def read_head(url: str, where: str) -> Head:
    """Return the header of a safetensors file, and not one byte of its tensors.

    A server that ignores ranges starts to send the whole file: what it sends is read up to the
    header's end, and the connection is closed.

    Raises:
        CheckpointError: if the header is not to be believed, or the server's parts are not.
        RefusedError: if the server does not give it.
        ModelReferenceError: if no server answers.
    """
    span = f"bytes=0-{PREFIX_BYTES - 1}"
    with _answer(url, where, {"Range": span, "Accept-Encoding": "identity"}) as response:
        chunks = _in_time(response.iter_raw(), where)
        if response.status_code == 200:
            return _from_the_start(chunks, response.headers, where)
        total = _checked_part(response, 0, PREFIX_BYTES, where)
        prefix = _exactly(chunks, PREFIX_BYTES, where)
    length = header_length(prefix, total, where)
    if length == 0:
        return Head(prefix, total)
    span = f"bytes={PREFIX_BYTES}-{PREFIX_BYTES + length - 1}"
    with _answer(url, where, {"Range": span, "Accept-Encoding": "identity"}) as response:
        if response.status_code == 200:
            raise _lies(where, "gave a part of the file and then no other")
        if _checked_part(response, PREFIX_BYTES, length, where) != total:
            raise _lies(where, "gives two sizes for one file")
        content = _exactly(_in_time(response.iter_raw(), where), length, where)
    return Head(prefix + content, total)


def _from_the_start(chunks: Iterator[bytes], headers: Mapping[str, str], where: str) -> Head:
    if headers.get("content-encoding", "identity") != "identity":
        raise _lies(where, "sends an encoded file")
    size = headers.get("content-length", "")
    if not size.isdecimal() or len(size) > 20:
        raise _lies(where, "does not say how large the file is")
    content, total = b"", int(size)
    wanted = min(PREFIX_BYTES, total)
    for chunk in chunks:
        content += chunk
        if wanted <= PREFIX_BYTES <= len(content):
            wanted = PREFIX_BYTES + header_length(content, total, where)
        if len(content) >= wanted:
            break
    if len(content) < wanted or total < PREFIX_BYTES:
        header_length(content[:PREFIX_BYTES], total, where)  # says so if it is merely short
        raise _lies(where, "stopped inside the header")
    return Head(content[:wanted], total)


def _checked_part(response: Any, begin: int, length: int, where: str) -> int:
    if response.status_code == 416:
        raise CheckpointError("the file is too short to hold a header.", where=where)
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    encoding = response.headers.get("content-encoding", "identity")
    if response.status_code != 206 or match is None or encoding != "identity":
        raise _lies(where, "answers a request for a part of the file in an unknown way")
    first, last, total = (int(number) for number in match.groups())
    if total < begin + length and first == begin and last == total - 1:
        raise CheckpointError("the file is too short to hold a header.", where=where)
    if (first, last) != (begin, begin + length - 1):
        raise _lies(where, "gives another part of the file than the one asked for")
    return total


def _exactly(chunks: Iterator[bytes], length: int, where: str) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > length:
            raise _lies(where, "sends more than the part that was asked for")
    if len(content) < length:
        raise _lies(where, "sends less than the part that was asked for")
    return bytes(content)


@contextmanager
def _answer(url: str, where: str, headers: Mapping[str, str]) -> Iterator[Any]:
    # Only the opening is repeated: the body of an exception in the caller is the caller's.
    response = _opened(url, where, headers)
    try:
        yield response
    except (CheckpointError, ModelReferenceError):
        raise
    except Exception as error:  # of the transport library, while the body is read
        raise _out_of_reach(where, error) from error
    finally:
        response.close()


def _opened(url: str, where: str, headers: Mapping[str, str]) -> Any:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = _following(url, where, headers)
        except (CheckpointError, ModelReferenceError):
            raise
        # Each version of the Hub's client brings errors of another transport library.
        except Exception as error:
            if attempt == ATTEMPTS or _offline():
                raise _out_of_reach(where, error) from error
        else:
            status = response.status_code
            if status in (200, 206, 416):
                return response
            response.close()
            if attempt == ATTEMPTS and status in _BUSY:
                raise ModelReferenceError(
                    f"the Hub is busy (HTTP {status}).", where=where, fix="Try again later."
                )
            if status not in _BUSY:
                raise RefusedError(status, response.headers.get("X-Error-Code", ""), where)
        time.sleep(_PAUSE * attempt)
    raise AssertionError


def _following(url: str, where: str, headers: Mapping[str, str]) -> Any:
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    home = _origin(url)
    session = get_session()
    for _ in range(MAX_REDIRECTS + 1):
        identity = build_hf_headers() if _origin(url) == home else {}
        request = session.build_request(
            "GET", url, headers={**identity, **headers}, timeout=_timeout()
        )
        if _origin(url) != home:
            request.headers.pop("cookie", None)
            request.headers.pop("authorization", None)
        response = session.send(request, stream=True, follow_redirects=False)
        if response.status_code not in _REDIRECTS:
            return response
        target = _joined(url, response.headers.get("location", ""))
        response.close()
        if target is None or not may_redirect(url, target):
            raise _lies(where, "sends its visitors to an address that is not allowed")
        url = target
    raise _lies(where, f"redirects more than {MAX_REDIRECTS} times")


def may_redirect(origin: str, target: str) -> bool:
    """Return whether a redirect is followed: to the web, no less secret, and not inwards.

    An address of the local machine or network is only followed from such an address.
    """
    here, there = urlsplit(origin), urlsplit(target)
    if there.scheme not in ("http", "https") or not there.hostname or there.username:
        return False
    if here.scheme == "https" and there.scheme != "https":
        return False
    return not _inward(there.hostname) or _inward(here.hostname or "")


def _joined(url: str, location: str) -> str | None:
    try:
        return urljoin(url, location)
    except ValueError:
        return None


def _inward(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # Forms such as 127.1 or 0x7f000001, which some resolvers take for addresses.
        return re.fullmatch(r"[0-9.]+|0x[0-9a-f.x]+", host.lower()) is not None


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _timeout() -> Any:
    # (connect, read, write, pool) is a form that both generations of the transport library take.
    return (SECONDS_TO_CONNECT, SECONDS_OF_SILENCE, SECONDS_OF_SILENCE, SECONDS_OF_SILENCE)


def _in_time(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    deadline = time.monotonic() + SECONDS_AN_ANSWER
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise _lies(where, "sends too slowly")
        yield chunk


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _lies(where: str, how: str) -> CheckpointError:
    return CheckpointError(
        f"the server {how}.", where=where, fix="Download the model, and check the folder instead."
    )


def _out_of_reach(where: str, error: Exception) -> ModelReferenceError:
    return ModelReferenceError(
        f"the Hub cannot be asked ({type(error).__name__}).",
        where=where,
        fix="Unset HF_HUB_OFFLINE or check the connection.",
    )
