"""The outer form of a payload of headers: sections, the parts of the plan, base64 taken out of the literals.

Source: docs/format-headers.md#bytes, #literals.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from gpushrink.codec import bytestream
from gpushrink.codec.headers.limits import MAX_STEPS, PARTS
from gpushrink.codec.headers.numbers import pack_numbers, unpack_numbers
from gpushrink.codec.varint import Cursor, pack_varint
from gpushrink.errors import NewerVersionError

__all__ = ["pack_sections", "parse_sections"]

WHAT = "a payload of headers"
# LZMA codes about 1.5 MB/s here: past this size it is for those who have time.
_LZMA_SIZE = 1 << 20
_LONG = 1 << 17
# Long runs alone: vendors put whole XML documents in base64 into private elements. UIDs and numbers look like base64
# too, but of few characters.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{1024,}")
_LEAST_CHARACTERS = 24
_PROBE = 512


def pack_sections(parts: Mapping[str, bytes], literals: bytes, *, limit: int, effort: int) -> bytes | None:
    """Return a payload; None where a section would be over the limit.

    Parameters
    ----------
    parts
        The plan's parts by name, all but the runs.
    limit
        The size of what is coded.
    effort
        0: fast; 1: LZMA where it costs little; 2: LZMA throughout.
    """
    text, binary, runs = _take_base64_out(literals)
    whole = {**parts, "runs": pack_numbers(runs)}
    plan = b"".join(pack_varint(len(whole[name])) + whole[name] for name in PARTS)
    if len(plan) > limit or len(literals) > limit:
        return None
    return b"".join(_pack_section(section, effort) for section in (plan, text, binary))


def parse_sections(payload: bytes | memoryview, decoded: int) -> tuple[dict[str, bytes], bytes]:
    """Return the plan's parts by name and the literals.

    Parameters
    ----------
    decoded
        The decoded size of the block: no section and no literals may be larger.

    Raises
    ------
    CorruptError
        If the payload does not hold them.
    """
    cursor = Cursor(payload, WHAT)
    plan, text, binary = (_parse_section(cursor, decoded) for _ in range(3))
    cursor.end()
    inner = Cursor(plan, WHAT)
    parts = {name: bytes(inner.take(inner.varint())) for name in PARTS}
    inner.end()
    return parts, _put_base64_back(text, binary, unpack_numbers(parts["runs"], MAX_STEPS), decoded, cursor)


def _pack_section(data: bytes, effort: int) -> bytes:
    kind, coded = bytestream.STORED, data
    if data and effort > (len(data) > _LZMA_SIZE):
        squeezed, better = bytestream.lzma_compress(data), bytestream.LZMA
    else:
        squeezed, better = bytestream.zstd_compress(data, level=9, long=len(data) > _LONG), bytestream.ZSTD
    if len(squeezed) < len(data):
        kind, coded = better, squeezed
    return pack_varint(len(data)) + pack_varint(len(coded)) + bytes([kind]) + coded


def _parse_section(cursor: Cursor, limit: int) -> bytes:
    size, coded = cursor.varint(limit), cursor.varint()
    kind = cursor.byte()
    if kind > bytestream.LZMA:
        raise NewerVersionError(f"a section of headers has the reserved kind {kind}; update gpushrink")
    return bytes(bytestream.expand(kind, cursor.take(coded), size=size, limit=limit))


def _take_base64_out(literals: bytes) -> tuple[bytes, bytes, list[int]]:
    text: list[bytes] = []
    binary: list[bytes] = []
    runs: list[int] = []
    at = 0
    for match in _BASE64.finditer(literals):
        start = match.start()
        groups = (match.end() - start) // 4
        if len(set(literals[start : start + _PROBE])) < _LEAST_CHARACTERS:
            continue
        end = start + 4 * groups
        text.append(literals[at:start])
        binary.append(base64.b64decode(literals[start:end]))
        runs += (start - at, groups)
        at = end
    text.append(literals[at:])
    return b"".join(text), b"".join(binary), runs


def _put_base64_back(text: bytes, binary: bytes, runs: list[int], limit: int, cursor: Cursor) -> bytes:
    if not runs and not binary:
        return text
    gaps, groups = runs[::2], runs[1::2]
    if len(gaps) != len(groups) or min(groups, default=0) < 1 or 3 * sum(groups) != len(binary):
        raise cursor.fail("its base64 does not use up its bytes")
    if sum(gaps) > len(text) or len(text) + 4 * sum(groups) > limit:
        raise cursor.fail("its literals are larger than the block")
    out: list[bytes] = []
    at = used = 0
    for gap, count in zip(gaps, groups, strict=True):
        out += (text[at : at + gap], base64.b64encode(binary[used : used + 3 * count]))
        at, used = at + gap, used + 3 * count
    out.append(text[at:])
    return b"".join(out)
