"""Headers, coded by what each changes of the one before. Source: docs/format-headers.md."""

from gpushrink.codec.headers.decoder import decode_headers
from gpushrink.codec.headers.encoder import encode_headers

__all__ = ["decode_headers", "encode_headers"]
