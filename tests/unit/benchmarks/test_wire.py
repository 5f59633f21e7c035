"""Requests as bytes, answers out of a buffer."""

from __future__ import annotations

import pytest

from benchmarks.wire import Answer, NotUnderstood, read_answer, request_bytes

PLAIN = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 503 -\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def test_a_request_is_complete() -> None:
    request = request_bytes("POST", "/x/", body=b"{}", authorization="Basic eA==", headers=(("A", "b"),))
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /x/ HTTP/1.1"
    assert set(head.split(b"\r\n")[1:]) == {
        b"Host: 127.0.0.1",
        b"Content-Length: 2",
        b"Content-Type: application/json",
        b"Authorization: Basic eA==",
        b"A: b",
    }
    assert body == b"{}"


@pytest.mark.parametrize(
    ("buffer", "answer"),
    [
        (PLAIN, Answer(202, b"hello", len(PLAIN), False)),
        (CHUNKED, Answer(200, b"hello, world", len(CHUNKED), False)),
        (CLOSING, Answer(503, b"", len(CLOSING), True)),
    ],
)
def test_an_answer_is_read_once_its_last_byte_is_there(buffer: bytes, answer: Answer) -> None:
    assert read_answer(buffer) == answer
    assert read_answer(buffer + PLAIN) == answer, "what follows is the next one's"
    assert [read_answer(buffer[:size]) for size in range(len(buffer))] == [None] * len(buffer)


@pytest.mark.parametrize("buffer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"])
def test_what_is_no_answer_of_ours_is_said_to_be_none(buffer: bytes) -> None:
    with pytest.raises(NotUnderstood):
        read_answer(buffer)
