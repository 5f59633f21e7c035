"""HTTP/1.1 as the clients of benchmarks and load tests speak it: requests as bytes, answers out of a buffer.

A full parser would cost the generator more than the gateway spends on the request. This one reads what Sendpool
answers (a length, or chunks) and says so when it meets anything else.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD_END = b"\r\n\r\n"


class Answer(NamedTuple):
    """One answer; `size_bytes` of the buffer were it."""

    status: int
    body: bytes
    size_bytes: int
    closes: bool  # the server ends the connection after it


class NotUnderstood(ValueError):
    """The bytes are no answer this client can read."""


def request_bytes(
    method: str, path: str, *, body: bytes = b"", authorization: str = "", media_type: str = "application/json",
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:  # fmt: skip
    """One request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    if body:
        lines.append(f"Content-Type: {media_type}")
    if authorization:
        lines.append(f"Authorization: {authorization}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + HEAD_END + body


def read_answer(buffer: bytes) -> Answer | None:
    """The first answer in `buffer` once it is complete; None until then. Raises NotUnderstood."""
    head_end = buffer.find(HEAD_END)
    if head_end < 0:
        return None
    head = buffer[:head_end].lower()
    if not head.startswith(b"http/1.1 ") or not head[9:12].isdigit():
        raise NotUnderstood(repr(buffer[:60]))
    body_at, closes = head_end + 4, b"\r\nconnection: close" in head
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        if b"\r\ntransfer-encoding: chunked" not in head:
            raise NotUnderstood("an answer with neither a length nor chunks")
        return _read_chunks(buffer, int(head[9:12]), body_at, closes=closes)
    line_end = head.find(b"\r\n", at + 2)
    body_end = body_at + int(head[at + 17 : line_end if line_end > 0 else None])
    if len(buffer) < body_end:
        return None
    return Answer(int(head[9:12]), buffer[body_at:body_end], body_end, closes)


def _read_chunks(buffer: bytes, status: int, at: int, *, closes: bool) -> Answer | None:
    parts: list[bytes] = []
    while True:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        size_bytes = int(buffer[at:line_end].partition(b";")[0], 16)
        at = line_end + 2
        if len(buffer) < at + size_bytes + 2:
            return None
        if size_bytes == 0:  # our servers send no trailers
            return Answer(status, b"".join(parts), at + 2, closes)
        parts.append(buffer[at : at + size_bytes])
        at += size_bytes + 2
