"""The volume codec: slabs of planes to bytes and back.

Pure arrays and bytes: no DICOM, no archive. Source: docs/format-volume.md.
"""

from gpushrink.codec.volume.levels import LEVELS
from gpushrink.codec.volume.references import choose_references, find_likely_references, try_references
from gpushrink.codec.volume.slab import CHAIN, decode_slab, encode_slab, encode_slab_parts, name_engine

__all__ = [
    "CHAIN",
    "LEVELS",
    "choose_references",
    "decode_slab",
    "encode_slab",
    "encode_slab_parts",
    "find_likely_references",
    "name_engine",
    "try_references",
]
