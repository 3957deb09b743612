"""The texts of all that may be compiled, as one number: what is kept on disk must never outlive them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

__all__ = ["digest_texts"]


@cache
def digest_texts() -> str:
    """Digest the text of all that may be compiled, and of the constants it takes from elsewhere."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
