"""Share a pack's jobs with helping processes; what comes of a job does not depend on where it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace

from gpushrink.codec.parallel import Team
from gpushrink.codec.table import CPU, Likely, References, SlabCodec, decode_block
from gpushrink.dicom.look import Looked, Place
from gpushrink.dicom.scan import Look, Spread
from gpushrink.dicom.walk import Found
from gpushrink.model import BlockCodec, Role
from gpushrink.pipeline.coding import Coded, Coder
from gpushrink.pipeline.crew import Crew, HelperLostError, Seat
from gpushrink.pipeline.crew.messages import Large
from gpushrink.pipeline.plan import BytesJob, SlabJob

__all__ = ["SharingCoder", "decode_shared", "spread_over"]


def spread_over(crew: Crew) -> Spread:
    """Give what looks into files here and at helpers, for `scan_files`; into those for pydicom, only here."""

    def spread(look: Look, places: Sequence[Sequence[Place]], keeps: Sequence[int]) -> Iterator[list[Looked]]:
        parts = crew.spread("look", look, zip(places, keeps, strict=True))
        for some, part in zip(places, parts, strict=True):
            yield [look([place], 0)[0] if found is None else found for place, found in zip(some, part, strict=True)]

    return spread


class SharingCoder(Coder):
    """Code jobs here or at a helper, wherever there is a place: safe to call from many threads.

    Parameters
    ----------
    crew
        Who shares the work.
    """

    def __init__(
        self,
        found: Sequence[Found],
        heads: Mapping[int, bytes],
        *,
        level: str,
        slab_codec: SlabCodec,
        team: Team,
        crew: Crew,
    ) -> None:
        super().__init__(found, heads, level=level, slab_codec=slab_codec, team=team)
        self._crew = crew
        self._stopped = False

    def run(self, job: BytesJob | SlabJob) -> list[Coded]:
        """See `Coder`; a helper that fails leaves the job to this process."""
        pattern = None
        if isinstance(job, SlabJob) and job.has_pattern and not job.is_first:
            # Before there is a place: whoever waits must not hold what the first slab needs.
            pattern = self._patterns.wait(job.volume.frames[0])
            if pattern is None:  # the first slab failed, and with it the pack
                raise CancelledError
        with self._crew.take() as seat:
            if self._stopped:
                raise CancelledError
            if seat.is_here:
                return super().run(job)
            try:
                return self._run_away(job, pattern, seat)
            except HelperLostError:
                pass
        return super().run(job)

    def stop(self) -> None:
        """See `Coder`; and begin no job that has waited for a place."""
        self._stopped = True
        super().stop()

    def _run_away(self, job: BytesJob | SlabJob, pattern: tuple[Likely, References] | None, seat: Seat) -> list[Coded]:
        if isinstance(job, BytesJob):
            if job.role is Role.HEADER:  # the scan holds most of them
                return [seat.call("code headers", job, self._gather(job))]
            ids = {piece.file_id for piece in job.pieces}
        else:
            ids = {frame.file_id for frame in job.frames}
            # All that is asked of a volume but for its frames: of those there may be thousands.
            job = replace(job, volume=replace(job.volume, frames=job.volume.frames[:1]))
        found = {file_id: self._found[file_id] for file_id in ids}
        if isinstance(job, SlabJob) and job.has_pattern and job.is_first:
            pattern = seat.call("choose", job, found)
            self._patterns.know(job.volume.frames[0], pattern)
        coded, digests = seat.call("code", job, found, pattern)
        self._digests.update(digests)
        return list(coded)


def decode_shared(
    crew: Crew, codec: BlockCodec, coded: memoryview, decoded: int, *, slab_codec: SlabCodec, team: Team
) -> memoryview:
    """Decode a block here or at a helper; see `gpushrink.codec.table.decode_block`."""
    with crew.take() as seat:
        if not seat.is_here:
            try:
                return memoryview(seat.call("decode", codec, Large(coded), decoded, slab_codec is CPU))
            except HelperLostError:
                pass
        with team.at_work():
            return memoryview(decode_block(codec, coded, decoded, slab_codec=slab_codec, threads=team))
