"""Bytes, worked out by hand from the tables of PROTOCOL.md."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import lagkv
import numpy as np
import pytest
from lagkv import wire

DESCRIPTION = wire.Description(
    layers=30, kv_heads=3, key_dim=64, value_dim=128, dtype="bfloat16", sink=16, lag=128, keep_ratio=0.25, value_weight=1.0,
    uncompressed_layers=(0, 29), capacity=8192, fingerprint="né", shared=True, disposable=False,
)  # fmt: skip
DESCRIPTION_BYTES = bytes.fromhex(
    "1e000000 03000000 40000000 80000000"  # layers, heads, keyDim, valueDim
    "03 10000000 80000000"  # element, sink, lag
    "000000000000d03f 000000000000f03f"  # keepRatio 0.25, valueWeight 1.0
    "02000000 00000000 1d000000"  # uncompressedLayers
    "0020000000000000"  # capacity
    "0300 6ec3a9"  # fingerprint, 3 bytes of UTF-8
    "01000000"  # flags
)
ROW_BYTES = (
    bytes.fromhex("0400 63686174 e8030000 02")  # "chat", owner 1000, suspended
    + DESCRIPTION_BYTES
    + struct.pack("<5Q", 1500, 10, 1424, 0, 99)
    + bytes.fromhex("07000000 02000000")  # writer, readers
    + struct.pack("<2Q", 1_700_000_000_500, 1_600_000_000_000)
    + bytes.fromhex("0000")  # fault
)


def test_a_description_is_its_table() -> None:
    assert DESCRIPTION.encoded() == DESCRIPTION_BYTES
    fields = wire.Fields(DESCRIPTION_BYTES)
    assert wire.Description.read(fields) == DESCRIPTION
    fields.end()


def test_a_row_is_its_table() -> None:
    fields = wire.Fields(ROW_BYTES)
    row = wire.SessionRow.read(fields)
    fields.end()
    assert (row.name, row.owner, row.state, row.description) == ("chat", 1000, "suspended", DESCRIPTION)
    assert (row.tokens, row.sealed_chunks, row.durable_tokens, row.resident_bytes, row.disk_bytes) == (1500, 10, 1424, 0, 99)
    assert (row.writer, row.readers, row.fault) == (7, 2, "")
    assert row.last_used == datetime(2023, 11, 14, 22, 13, 20, 500000, UTC)
    assert "chat: suspended, 1,500 of 8,192 tokens" in repr(row)


def test_choices_are_layer_heads_m_and_the_chunks_of_each_head_in_turn() -> None:
    sent = wire.choices([(5, np.array([[1, 2], [3, 4], [5, 6]]))])
    assert sent == struct.pack("<4I6I", 1, 5, 3, 2, 1, 2, 3, 4, 5, 6)


def test_every_payload_that_ends_early_or_late_is_a_protocol_error() -> None:
    for length in range(len(ROW_BYTES)):
        with pytest.raises(lagkv.ProtocolError):
            wire.SessionRow.read(wire.Fields(ROW_BYTES[:length]))
    fields = wire.Fields(ROW_BYTES + b"\0")
    wire.SessionRow.read(fields)
    with pytest.raises(lagkv.ProtocolError, match="bytes to spare"):
        fields.end()


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"\2", wire.Fields.bool),
        (b"\1\0\xff", wire.Fields.string),
        (b"\xff\xff\xff\xff", lambda fields: fields.list(wire.Fields.u64)),
        (struct.pack("<Q", 1 << 63), lambda fields: wire._moment(fields.u64())),
    ],
)
def test_fields_that_mean_nothing_are_protocol_errors(data: bytes, read: object) -> None:
    with pytest.raises(lagkv.ProtocolError):
        read(wire.Fields(data))  # type: ignore[operator]


def test_a_number_too_large_for_its_field_is_refused_before_it_is_sent() -> None:
    for value in (-1, 1 << 32):
        with pytest.raises(lagkv.LimitExceeded) as caught:
            wire.u32(value)
        assert (caught.value.code, caught.value.name, caught.value.seen) == (5, "limitExceeded", str(value))


def test_element_types_take_their_own_bits_and_no_others() -> None:
    bfloat16 = lagkv.elements.named("bfloat16")
    bits = np.arange(4, dtype=np.uint16)
    assert lagkv.elements.as_stored(bits, bfloat16) is bits
    for wrong in (np.float16, np.int16, np.float32, np.uint32, ">u2"):
        with pytest.raises(TypeError, match="for a session of bfloat16"):
            lagkv.elements.as_stored(np.zeros(4, wrong), bfloat16)
    float16 = lagkv.elements.named(np.float16)
    assert lagkv.elements.as_stored(bits, float16).dtype == np.float16
    with pytest.raises(ValueError, match="no element type"):
        lagkv.elements.named("int8")


def test_arrays_of_ml_dtypes_are_taken_as_they_are() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    for name, kind in (("bfloat16", "bfloat16"), ("float8_e4m3", "float8_e4m3fn"), ("float8_e5m2", "float8_e5m2")):
        element = lagkv.elements.named(getattr(ml_dtypes, kind))
        assert element.name == name
        array = np.ones(3, getattr(ml_dtypes, kind))
        assert (lagkv.elements.as_stored(array, element) == array.view(element.storage)).all()
