"""What a payload of headers may hold, for its writer and its reader. Source: docs/format-headers.md#limits."""

from __future__ import annotations

__all__ = [
    "MAX_EDITS",
    "MAX_HEADERS",
    "MAX_KEYS",
    "MAX_LAYOUT_TOKENS",
    "MAX_SHAPES",
    "MAX_STEPS",
    "MAX_TOKENS",
    "PARTS",
    "WIDTHS",
]

MAX_KEYS = 1 << 16
MAX_SHAPES = 1 << 14
MAX_LAYOUT_TOKENS = 1 << 20
MAX_HEADERS = 1 << 18
MAX_TOKENS = 1 << 24
MAX_EDITS = 1 << 20
MAX_STEPS = 1 << 20
WIDTHS = (0, 2, 4)
PARTS = ("keys", "layouts", "order", "flags", "forms", "lengths", "copied", "dropped", "put", "runs")
