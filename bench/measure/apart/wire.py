"""Messages between the harness and a system's process: a JSON text and raw buffers. Nothing is ever unpickled.

`remote` and `child` call it. A frame is 8 bytes of length and a body. The body is 4 bytes of length, a JSON object, and
the tensors' bytes. The objects of the interface (Link, Transmission, ...) are written field by field, and the reader
creates new ones. So none of their attributes, views or subclasses reaches the other side.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from systems.interface import Budget, Decoded, Link, Received, Transmission

LARGEST = 1 << 34  # largest frame in bytes
LONGEST_WAIT_S = 3600.0  # of one wait: a socket takes no timeout of many years
_KINDS = {kind.__name__: kind for kind in (Budget, Decoded, Link, Received, Transmission)}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.complex64, torch.complex128, torch.float16, torch.float32, torch.float64, torch.bfloat16,
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
    )
}  # fmt: skip


NO_MESSAGE = "the answer of the system's process is not a message of the bench"


class WireError(RuntimeError):
    """The bytes that arrived are no message."""


def text(value: Any) -> str:
    """Any value as text that UTF-8 can encode."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def pack(message: Any) -> bytes:
    """The body of a frame for a message. Raises TypeError if it contains a type that no message may hold."""
    buffers: list[bytes] = []
    head = json.dumps(_plain(message, buffers)).encode("ascii")
    return b"".join([struct.pack(">I", len(head)), head, *buffers])


def unpack(body: bytes) -> Any:
    """The inverse of `pack`, with new objects. Raises WireError if the body is not complete."""
    try:
        (length,) = struct.unpack_from(">I", body)
        return _rich(json.loads(body[4 : 4 + length]), memoryview(body)[4 + length :])
    except (ValueError, LookupError, TypeError, ArithmeticError, RuntimeError, MemoryError, struct.error) as error:
        raise WireError(f"{NO_MESSAGE} ({type(error).__name__})") from None


def _plain(value: Any, buffers: list[bytes]) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value if value is None or isinstance(value, bool) else int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return _plain(value.item(), buffers)
    if isinstance(value, Tensor):
        return _buffer(value, buffers)
    if isinstance(value, (list, tuple)):
        return [_plain(one, buffers) for one in value]
    if isinstance(value, dict):
        return {"dict": [[text(key), _plain(one, buffers)] for key, one in value.items()]}
    for name, kind in _KINDS.items():
        if isinstance(value, kind):
            own = {field.name: _plain(getattr(value, field.name), buffers) for field in fields(kind)}
            return {"object": name, "fields": own}
    raise TypeError(
        f"a {type(value).__name__} cannot pass between two processes; use numbers, text, lists, dicts and tensors"
    )


def _buffer(tensor: Tensor, buffers: list[bytes]) -> dict:
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _DTYPES or tensor.layout != torch.strided:
        raise TypeError(f"a tensor of {name} cannot pass between two processes; use a dense one of a usual type")
    with torch.no_grad():
        whole = torch.Tensor.contiguous(tensor.detach().cpu().resolve_conj().resolve_neg())
        data = whole.reshape(-1).view(torch.uint8).numpy().tobytes() if whole.numel() else b""
    start = sum(map(len, buffers))
    buffers.append(data)
    return {"tensor": name, "shape": list(whole.shape), "start": start, "bytes": len(data)}


def _rich(value: Any, data: memoryview) -> Any:
    if isinstance(value, list):
        return [_rich(one, data) for one in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {str(key): _rich(one, data) for key, one in value["dict"]}
    if "tensor" in value:
        dtype, shape = _DTYPES[value["tensor"]], [int(size) for size in value["shape"]]
        start, count = int(value["start"]), int(value["bytes"])
        size = torch.empty((), dtype=dtype).element_size()
        if min([start, count, *shape]) < 0 or start + count > len(data) or math.prod(shape) * size != count:
            raise ValueError("a tensor's size and bytes disagree")
        if not count:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(data[start : start + count]), dtype=torch.uint8).view(dtype).reshape(shape)
    own = {str(key): _rich(one, data) for key, one in value["fields"].items()}
    return _KINDS[value["object"]](**own)


def send(connection: socket.socket, body: bytes) -> None:
    """Write one frame."""
    connection.sendall(struct.pack(">Q", len(body)))
    connection.sendall(body)


def receive(connection: socket.socket, deadline: float | None = None) -> bytes | None:
    """Read the body of one frame. None if the other side has closed the connection.

    deadline: a time of `time.monotonic`. Raises TimeoutError after it, and WireError for a frame that is too large.
    """
    head = _exactly(connection, 8, deadline)
    if head is None:
        return None
    (length,) = struct.unpack(">Q", head)
    if length > LARGEST:
        raise WireError(f"the answer of the system's process has {length} bytes; the limit is {LARGEST}")
    return _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes | None:
    got = bytearray()
    while len(got) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if not left > 0:
                raise TimeoutError
            connection.settimeout(min(left, LONGEST_WAIT_S))
        else:
            connection.settimeout(None)
        try:
            part = connection.recv(min(count - len(got), 1 << 20))
        except TimeoutError:
            continue  # the deadline is looked at again
        if not part:
            return None
        got += part
    return bytes(got)
