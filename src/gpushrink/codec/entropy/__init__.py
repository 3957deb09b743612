"""The entropy stage under the volume codec: segments of order-0 bytes to one payload, and back.

Source: docs/format-entropy.md; docs/decisions/entropy-stage.md says what was measured.
"""

from gpushrink.codec.entropy.stage import decode_segments, encode_parts, encode_segments

__all__ = ["decode_segments", "encode_parts", "encode_segments"]
