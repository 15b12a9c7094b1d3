"""ClickHouse's frames: the checksum as other implementations compute it, and data that comes back."""

from __future__ import annotations

import os
import struct

import lz4.block
import pytest

from services.monitor.inbound.frames import checksum, framed

# Written by github.com/go-faster/city (CH128), which clickhouse-go checks answers with.
VECTORS = {
    8: (2952482273998757894, 7781269739558892978),
    9: (7830188272800414737, 13829061603860465776),
    15: (10490719177019571389, 17975401014300944753),
    16: (16048976036897610250, 3183581455136815566),
    17: (17162054361126216976, 15617465675514654055),
    19: (3119170727378517159, 14212535840340951282),
    20: (4289098828538356781, 1235214910672985867),
    24: (14833729848377311156, 5958868265079531534),
    25: (9177300179506756928, 15201152047077769608),
    32: (11634651694548306953, 3406576074348359650),
    33: (4822985540204884068, 13851062923481299788),
    63: (10156285845546791848, 9564181542854348028),
    64: (13402814833088779556, 18172488548585591021),
    127: (11540438430577160696, 15230828822406049411),
    128: (8263384965625807043, 13577979381647894851),
    143: (12791368663027912605, 3812520203761459991),
    144: (14861523613210882411, 1305017113169802817),
    160: (4047277840259548162, 16130005850173052470),
    200: (6418262816727096654, 6309997979769551901),
    271: (15746364013850953264, 11972187847744020888),
    272: (9855760178114548199, 1033002999005947559),
    400: (13410704878629154573, 11954337943410829430),
    4096: (1995187417160191356, 12325478120060061684),
}


@pytest.mark.parametrize("size", VECTORS)
def test_the_checksum_is_what_the_go_driver_computes(size: int) -> None:
    data = bytes((i * i * 7 + i * 31 + size) % 251 for i in range(size))
    assert struct.unpack("<QQ", checksum(data)) == VECTORS[size]


@pytest.mark.parametrize("data", [b"", b"x", b"words " * 1000, os.urandom(3_000_000)])
def test_what_is_framed_comes_back(data: bytes) -> None:
    assert unframed(framed(data)) == data


def unframed(stream: bytes) -> bytes:
    """As a driver reads it; every checksum has to hold."""
    parts = []
    while stream:
        method, packed, size = struct.unpack_from("<BII", stream, 16)
        frame = stream[16 : 16 + packed]
        assert (method, checksum(frame)) == (0x82, stream[:16])
        parts.append(lz4.block.decompress(frame[9:], uncompressed_size=size))
        stream = stream[16 + packed :]
    return b"".join(parts)
