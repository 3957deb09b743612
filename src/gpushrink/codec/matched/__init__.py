"""The matched stage: repeats taken out, the bytes between them coded by what stands before them.

For bytes that are no samples but hold more than repeats: streams of JPEG and RLE, tables, drawings. Pure bytes:
no DICOM, no archive. Source: docs/format-matched.md.
"""

from gpushrink.codec.matched.stage import decode, encode
from gpushrink.codec.matched.streams import group_streams

__all__ = ["decode", "encode", "group_streams"]
