"""A slab's parts, model, counts and coded residuals, as one run of bytes, and back.

Source: docs/format-volume.md, section "Bytes".
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts, size_of
from gpushrink.codec.entropy import decode_segments, encode_segments
from gpushrink.codec.entropy.engine import Engine, EngineName
from gpushrink.codec.volume import tokens
from gpushrink.codec.volume.parameters import Model
from gpushrink.errors import CorruptError, NewerVersionError

__all__ = ["MOST_AREA", "MOST_PLANES", "join_payload", "split_payload", "write_front"]

# Version, then the counts of head numbers and coefficients, then the lengths of: entropy-coded
# side tokens, side raw bits, entropy-coded tokens. The tokens' raw bits take the rest.
_HEADER: Final = struct.Struct("<BIIIII")
_VERSION: Final = 1
MOST_AREA: Final = 1 << 28
# A plane has a count for each of up to 256 contexts: without a limit, a few bytes could ask for any amount of memory.
MOST_PLANES: Final = 1 << 14


def join_payload(
    model: Model, counts: NDArray[np.int64], main_coded: Parts, main_raw: Buffer, *, engine: EngineName | Engine
) -> Parts:
    """Write a slab: its model, its counts of shape (planes, contexts), its entropy-coded tokens and their raw bits."""
    front = write_front(model, counts, size_of(main_coded), engine=engine)
    return tuple(part for part in (front, *main_coded, main_raw) if len(part))


def write_front(model: Model, counts: NDArray[np.int64], main_size: int, *, engine: EngineName | Engine) -> bytes:
    """Write what comes before a slab's entropy-coded tokens, which are so many bytes."""
    head, coefficients = model.to_numbers()
    changes = np.diff(counts, axis=0, prepend=0).T.ravel()
    side = tokens.fold(np.concatenate([np.array(part, np.int64) for part in (head, coefficients, changes)]))
    side_tokens, side_raw = tokens.split(side)
    side_lengths = [len(head), len(coefficients), len(changes)]
    # The number of contexts, less one, leads: the counts' length follows from it.
    side_coded = bytes([model.context_count - 1]) + encode_segments(side_tokens, side_lengths, engine=engine)
    header = _HEADER.pack(_VERSION, len(head), len(coefficients), len(side_coded), len(side_raw), main_size)
    return b"".join((header, side_coded, side_raw))


def split_payload(
    payload: Buffer, depth: int, area: int, *, engine: EngineName | Engine
) -> tuple[Model, NDArray[np.int64], memoryview, memoryview]:
    """Read and check what `join_payload` wrote, for `depth` planes of `area` samples; the streams are views of it.

    Raises
    ------
    CorruptError
        If a part is missing, too long, or contradicts the others.
    """
    whole = memoryview(payload).toreadonly()  # slices of bytes would be copies
    if len(payload) < _HEADER.size:
        raise CorruptError("a volume slab is shorter than its header; the archive is damaged")
    version, head_count, coefficient_count, *sizes = _HEADER.unpack_from(payload)
    if version != _VERSION:
        raise NewerVersionError(f"a volume slab names version {version}; this gpushrink knows {_VERSION}")
    edges = np.cumsum([_HEADER.size, *sizes]).tolist()
    if edges[-1] > len(payload):
        raise CorruptError("the parts of a volume slab are longer than the slab; the archive is damaged")
    # Bounds that no model exceeds: 64 thresholds each way, four directions, 60 taps, three stages.
    if head_count > 4096 or coefficient_count > 1 << 20:
        raise CorruptError("a volume slab announces too many parameters; the archive is damaged")
    side_coded, side_raw, main_coded = (whole[a:b] for a, b in pairwise(edges))
    model, counts = _read_side(side_coded, side_raw, head_count, coefficient_count, depth, engine)
    if (counts < 0).any() or (counts.sum(axis=1) != area).any():
        raise CorruptError("the context counts of a volume slab do not add up; the archive is damaged")
    return model, counts, main_coded, whole[edges[-1] :]


def _read_side(
    coded: memoryview, raw: memoryview, head_count: int, coefficient_count: int, depth: int, engine: EngineName | Engine
) -> tuple[Model, NDArray[np.int64]]:
    if not coded:
        raise CorruptError("a volume slab has no parameters; the archive is damaged")
    contexts = coded[0] + 1
    lengths = [head_count, coefficient_count, contexts * depth]
    side = tokens.unfold(tokens.join(decode_segments(coded[1:], lengths, engine=engine), raw))
    edges = np.cumsum([0, *lengths]).tolist()
    head, coefficients, changes = (side[a:b] for a, b in pairwise(edges))
    model = Model.from_numbers(head, coefficients)
    if model.context_count != contexts:
        raise CorruptError("a volume slab disagrees on its number of contexts; the archive is damaged")
    return model, changes.reshape(contexts, depth).cumsum(axis=1).T
