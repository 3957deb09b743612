"""Sum up what an archive is made of, from its index alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass

from gpushrink.archive.layout import VERSION, BlockType
from gpushrink.archive.reader import Catalogue
from gpushrink.model import BlockCodec, EntryKind, Role

__all__ = ["ArchiveInfo", "InfoRow", "describe_catalogue"]


@dataclass(frozen=True, slots=True)
class InfoRow:
    """Sum up the data blocks of one role and codec."""

    role: str
    codec: str
    blocks: int
    decoded: int
    stored: int


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """Say what an archive is made of; sizes in bytes."""

    version: int
    files: int
    folders: int
    links: int
    source_bytes: int
    archive_bytes: int
    rows: tuple[InfoRow, ...]

    @property
    def ratio(self) -> float:
        """Return source size over archive size."""
        return self.source_bytes / self.archive_bytes

    def as_json(self) -> dict[str, object]:
        """Return the summary as values that JSON can hold."""
        return {**asdict(self), "ratio": round(self.ratio, 4)}


def describe_catalogue(catalogue: Catalogue) -> ArchiveInfo:
    """Sum up an archive."""
    sums: dict[tuple[Role, BlockCodec], list[int]] = defaultdict(lambda: [0, 0, 0])
    for record in catalogue.records:
        if record.type == BlockType.DATA:
            row = sums[Role(record.role), BlockCodec(record.codec)]
            row[0] += 1
            row[1] += record.decoded
            row[2] += record.length
    kinds = [entry.kind for entry in catalogue.entries.values()]
    return ArchiveInfo(
        version=VERSION,
        files=kinds.count(EntryKind.FILE),
        folders=kinds.count(EntryKind.FOLDER),
        links=kinds.count(EntryKind.LINK),
        source_bytes=sum(entry.size for entry in catalogue.entries.values()),
        archive_bytes=catalogue.archive_length,
        rows=tuple(
            InfoRow(role.name.lower(), codec.name.lower(), *values) for (role, codec), values in sorted(sums.items())
        ),
    )
