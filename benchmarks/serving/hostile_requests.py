"""Hostile requests: bytes of HTTP/1.1 requests that no honest client sends, drawn at random by kind."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

MEGABYTE = 2**20
SHORT = 1_000_000  # bytes of a body just below the limit
HOST = "Host: 127.0.0.1\r\n"
Body = dict[str, Any]


def post(body: bytes, path: str = "/rank", headers: str = "") -> bytes:
    """A request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode("latin-1") + body


def rank(valid: Body, **changes: Any) -> bytes:
    """A request to rank: `valid` with changes."""
    return post(json.dumps(valid | changes).encode())


def unknown_ids(random: Random, valid: Body) -> bytes:
    """A valid request for a user and items that nobody knows."""
    return rank(valid, user_id=random.getrandbits(62), candidates=[random.getrandbits(62) for _ in range(1000)])


def long_id(random: Random, valid: Body) -> bytes:
    """An id of nearly 1 MB, another one each time."""
    text = f"{random.getrandbits(64):x}" * (SHORT // 16)
    changes: list[Body] = [{"user_id": text}, {"candidates": [text]}, {"scenario": text}]
    return rank(valid, **random.choice(changes))


def large_overrides(random: Random, valid: Body) -> bytes:
    """A valid request for as many candidates as are allowed, with a long history that its caller knows better."""
    recent = [random.getrandbits(40) for _ in range(1000)]
    items = [random.getrandbits(40) for _ in range(1000)]
    return rank(valid, candidates=items, overrides={"user": {"user_recent_items": recent}})


def many_values(random: Random, valid: Body) -> bytes:
    """Lists of as many values as a body can hold."""
    values: list[Any] = random.choice([list(range(150_000)), [[]] * 300_000, [None] * 150_000, ["x"] * 150_000])
    table = random.choice(["user", "items"])
    column = random.choice(["user_recent_items", "user_clicks_7d", "price", "tags", "item_ctr_7d"])
    changes: list[Body] = [
        {"candidates": values},
        {"overrides": {table: {column: values}}},
        {"filters": {"tags": values}},
    ]
    return rank(valid, **random.choice(changes))


def many_fields(random: Random, valid: Body) -> bytes:
    """An object of tens of thousands of unknown fields."""
    fields: Body = {f"{random.getrandbits(32):x}": 0 for _ in range(50_000)}
    changes: list[Body] = [fields, {"context": fields}, {"overrides": {"user": fields}}]
    return rank(valid, **random.choice(changes))


def broken_json(random: Random, valid: Body) -> bytes:
    """Nesting, digits and bytes that no parser likes."""
    texts = [
        b"[" * 100_000,
        b'{"user_id":' * 80_000,
        b'{"user_id":' + b"9" * 100_000 + b"}",
        b'{"user_id":1e' + b"9" * 1000 + b"}",
        b'{"user_id":NaN,"candidates":[-Infinity]}',
        b'{"user_id":"\\ud800"}',
        b"\xff\xfe" * 1000,
        b"\x00" * 10_000,
        b'"' + b"\\u0000" * 100_000,
        b"",
    ]
    return post(random.choice(texts), random.choice(["/rank", "/rank_batch"]))


def flipped_bytes(random: Random, valid: Body) -> bytes:
    """A valid request in which some bytes are others."""
    request = bytearray(rank(valid))
    for _ in range(random.randint(1, 20)):
        request[random.randrange(len(request))] = random.randrange(256)
    return bytes(request)


def explained_batch(random: Random, valid: Body) -> bytes:
    """The dearest request that is allowed: a batch with explanations; its answer is rarely read."""
    one = valid | {"candidates": "all", "explain": True, "k": 1000, "user_id": random.getrandbits(62)}
    return post(json.dumps([one] * random.choice([1, 2, 8])).encode(), "/rank_batch")


def unknown_path(random: Random, valid: Body) -> bytes:
    """A path and a method that do not exist."""
    path = "/" + "%ff".join(f"{random.getrandbits(64):x}" for _ in range(random.choice([1, 20, 2000, 8000])))
    method = random.choice(["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "POST", "PROPFIND", "BREW"])
    return f"{method} {path}?{path} HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n".encode()


def many_headers(random: Random, valid: Body) -> bytes:
    """Thousands of headers, or headers of a megabyte."""
    count, size = random.choice([(20_000, 10), (127, 400), (1, MEGABYTE), (50, 20_000)])
    lines = "".join(f"x-{index}-{random.getrandbits(32):x}: {'v' * size}\r\n" for index in range(count))
    return f"GET /model HTTP/1.1\r\n{HOST}{lines}\r\n".encode()


def trace_headers(random: Random, valid: Body) -> bytes:
    """Headers of tracing, as long as they may be."""
    trace = f"traceparent: 00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01\r\n"
    state = "tracestate: " + ",".join(f"a{index}={random.getrandbits(64):x}" for index in range(500)) + "\r\n"
    baggage = "baggage: " + ",".join(f"b{index}={random.getrandbits(64):x}" for index in range(500)) + "\r\n"
    return post(json.dumps(valid).encode(), headers=trace + state + baggage)


def endless_trailers(random: Random, valid: Body) -> bytes:
    """A chunked body with trailers that go on."""
    head = f"POST /rank HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return (head + "2\r\n{}\r\n0\r\n" + f"x: {random.getrandbits(64):x}\r\n" * 100_000).encode()


def too_large(random: Random, valid: Body) -> bytes:
    """A body above the limit, with or without an announcement."""
    chunk = f"{MEGABYTE:x}\r\n".encode() + b" " * MEGABYTE + b"\r\n"
    head = f"POST /rank HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n"
    if random.random() < 0.5:
        return f"{head}Content-Length: {4 * MEGABYTE}\r\n\r\n".encode() + b" " * (4 * MEGABYTE)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 4 * chunk


def unfinished(random: Random, valid: Body) -> bytes:
    """A request that ends in the middle; the connection stays open."""
    request = rank(valid, candidates=list(range(1000)))
    return request[: random.randrange(1, len(request))]


def pipelined(random: Random, valid: Body) -> bytes:
    """Many requests in one piece."""
    return rank(valid) * random.choice([2, 10, 200])


def upgrade(random: Random, valid: Body) -> bytes:
    """A request to speak another protocol."""
    protocol = random.choice(["websocket", "h2c", "x" * 1000])
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    return f"GET /rank HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: {protocol}\r\n{key}\r\n".encode()


def other_page(random: Random, valid: Body) -> bytes:
    """Another path of the service."""
    path = random.choice(
        ["/metrics", "/model", "/docs.json", "/", "/schema.json", "/static_content/swagger-ui-bundle.js"]
    )
    return f"GET {path} HTTP/1.1\r\n{HOST}\r\n".encode()


KINDS: tuple[Callable[[Random, Body], bytes], ...] = (
    unknown_ids,
    long_id,
    large_overrides,
    many_values,
    many_fields,
    broken_json,
    flipped_bytes,
    explained_batch,
    unknown_path,
    many_headers,
    trace_headers,
    endless_trailers,
    too_large,
    unfinished,
    pipelined,
    upgrade,
    other_page,
)
