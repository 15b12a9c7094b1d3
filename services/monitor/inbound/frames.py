"""ClickHouse's own compressed frames (`compress=1`), as its JDBC and Go drivers ask for them.

A frame is a checksum of 16 bytes, then what it is of: the method (0x82, LZ4), the length of these nine bytes and the
data, the length unpacked, the data (src/Compression/ICompressionCodec.h). The checksum is CityHash128 as released by
Google in version 1.0.2; later versions differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_FRAME: Final = 1 << 20
_LZ4: Final = 0x82
_HEAD: Final = 9

_K0: Final = 0xC3A5C85C97CB3127
_K1: Final = 0xB492B66FBE98F273
_K2: Final = 0x9AE16A3B2F90404F
_K3: Final = 0xC949D7C7509E6557
_MUL: Final = 0x9DDFEA08EB382D69
_M: Final = (1 << 64) - 1
_WORD: Final = struct.Struct("<Q")


def framed(data: bytes) -> bytes:
    """The data in frames of at most 1 MiB unpacked; none for no data."""
    return b"".join(_frames(data))


def _frames(data: bytes) -> Iterator[bytes]:
    import lz4.block

    for start in range(0, len(data), _FRAME):
        part = data[start : start + _FRAME]
        packed = lz4.block.compress(part, store_size=False)
        frame = struct.pack("<BII", _LZ4, len(packed) + _HEAD, len(part)) + packed
        yield checksum(frame) + frame


def checksum(data: bytes) -> bytes:
    """CityHash128 of at least eight bytes: the low word, then the high one."""
    size = len(data)
    if size >= 16:
        low, high = _seeded(data[16:], _word(data, 0) ^ _K3, _word(data, 8))
    else:
        low, high = _seeded(b"", _word(data, 0) ^ (size * _K0 & _M), _word(data, size - 8) ^ _K1)
    return struct.pack("<QQ", low, high)


def _word(data: bytes, place: int) -> int:
    return int(_WORD.unpack_from(data, place)[0])


def _rotated(value: int, by: int) -> int:
    value &= _M
    return (value >> by | value << (64 - by)) & _M


def _mixed(value: int) -> int:
    value &= _M
    return value ^ value >> 47


def _two(low: int, high: int) -> int:
    a = _mixed((low ^ high) * _MUL)
    return _mixed((high ^ a) * _MUL) * _MUL & _M


def _short(data: bytes) -> int:
    """Of up to 16 bytes."""
    size = len(data)
    if size > 8:
        a, b = _word(data, 0), _word(data, size - 8)
        return _two(a, _rotated(b + size, size)) ^ b
    if size >= 4:
        first, last = struct.unpack_from("<I", data)[0], struct.unpack_from("<I", data, size - 4)[0]
        return _two(size + (first << 3), last)
    if size:
        y, z = data[0] + (data[size >> 1] << 8), size + (data[-1] << 2)
        return _mixed(y * _K2 ^ z * _K3) * _K2 & _M
    return _K2


def _seeded(data: bytes, low: int, high: int) -> tuple[int, int]:
    return _long(data, low, high) if len(data) >= 128 else _medium(data, low, high)


def _medium(data: bytes, a: int, b: int) -> tuple[int, int]:
    """Of less than 128 bytes."""
    size = len(data)
    if size <= 16:
        a = _mixed(a * _K1) * _K1 & _M
        c = (b * _K1 + _short(data)) & _M
        d = _mixed(a + (_word(data, 0) if size >= 8 else c))
    else:
        c = _two((_word(data, size - 8) + _K1) & _M, a)
        d = _two((b + size) & _M, (c + _word(data, size - 16)) & _M)
        a = (a + d) & _M
        for place in range(0, (size - 1) // 16 * 16, 16):
            a = (a ^ _mixed(_word(data, place) * _K1) * _K1 & _M) * _K1 & _M
            b ^= a
            c = (c ^ _mixed(_word(data, place + 8) * _K1) * _K1 & _M) * _K1 & _M
            d ^= c
    a, b = _two(a, c), _two(d, b)
    return a ^ b, _two(b, a)


def _weak(data: bytes, place: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = struct.unpack_from("<QQQQ", data, place)
    a += w
    b = _rotated(b + a + z, 21)
    c = a
    a += x + y
    return (a + z) & _M, (b + _rotated(a, 44) + c) & _M


def _long(data: bytes, x: int, y: int) -> tuple[int, int]:
    """Of 128 bytes and more."""
    size = len(data)
    z = size * _K1 & _M
    v0 = (_rotated(y ^ _K1, 49) * _K1 + _word(data, 0)) & _M
    v1 = (_rotated(v0, 42) * _K1 + _word(data, 8)) & _M
    w0 = (_rotated(y + z, 35) * _K1 + x) & _M
    w1 = _rotated(x + _word(data, 88), 53) * _K1 & _M
    whole = size // 128 * 128
    for place in range(0, whole, 64):
        x = _rotated(x + y + v0 + _word(data, place + 16), 37) * _K1 & _M
        y = _rotated(y + v1 + _word(data, place + 48), 42) * _K1 & _M
        x ^= w1
        y ^= v0
        z = _rotated(z ^ w0, 33)
        v0, v1 = _weak(data, place, v1 * _K1 & _M, x + w0)
        w0, w1 = _weak(data, place + 32, z + w1, y)
        z, x = x, z
    y = (y + _rotated(w0, 37) * _K0 + z) & _M
    x = (x + _rotated(v0 + z, 49) * _K0) & _M
    for end in range(32, size - whole + 32, 32):
        y = (_rotated(y - x, 42) * _K0 + v1) & _M
        w0 = (w0 + _word(data, size - end + 16)) & _M
        x = (_rotated(x, 49) * _K0 + w0) & _M
        w0 = (w0 + v0) & _M
        v0, v1 = _weak(data, size - end, v0, v1)
    x, y = _two(x, v0), _two(y, w0)
    return (_two((x + v1) & _M, w1) + y) & _M, _two((x + w1) & _M, (y + v1) & _M)
