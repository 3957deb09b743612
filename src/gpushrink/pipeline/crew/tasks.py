"""What helping processes can be asked to do. Each task gives what it would give in the process that asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from gpushrink.codec.parallel import Team
from gpushrink.codec.table import CPU, Likely, References, SlabCodec, decode_block
from gpushrink.dicom.look import look_into_plain
from gpushrink.dicom.walk import Found
from gpushrink.model import BlockCodec
from gpushrink.pipeline.auto_device import AutoSlabCodec, try_out
from gpushrink.pipeline.choosing import slab_codec_of
from gpushrink.pipeline.coding import Coded, Coder, encode_headers_of
from gpushrink.pipeline.crew.messages import Large, carry_coded
from gpushrink.pipeline.plan import BytesJob, SlabJob

__all__ = ["EARLY_TASKS", "TASKS", "Setting", "Workplace", "most_seats"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Say how a helper works.

    Parameters
    ----------
    threads
        How many processors it may use.
    device, device_memory
        As for `gpushrink.pack`.
    device_parts
        How many processes share the device's memory.
    """

    threads: int
    level: str
    device: str
    device_memory: int | None
    device_parts: int


def most_seats(threads: int) -> int:
    """Say how many tasks suit so many processors: half of the time of a slab that a card codes is waiting for it."""
    return 2 * threads


class Workplace:
    """Hold what tasks of one process share. Opening it, by entering it, takes a second or more."""

    def __init__(self, setting: Setting) -> None:
        self.level = setting.level
        self._setting = setting
        self._open = ExitStack()
        self.team = self._open.enter_context(Team(setting.threads))

    def __enter__(self) -> Workplace:
        setting = self._setting
        # Kernels and compiled code are loaded now: slabs that are in somebody's hands hold up all that follow. And
        # both at once, since a card takes half a second to open, in its driver.
        with ThreadPoolExecutor(1) as beside:
            loading = beside.submit(try_out, CPU, setting.level)
            self.slab_codec: SlabCodec = self._open.enter_context(
                slab_codec_of(setting.device, device_memory=setting.device_memory, parts=setting.device_parts)
            )
            loading.result()
        try_out(self.slab_codec, setting.level)
        if isinstance(self.slab_codec, AutoSlabCodec):
            self.slab_codec.settle()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def seats(self) -> int:
        """Say how many tasks it may be given at once; see `most_seats`."""
        codec, threads = self.slab_codec, self._setting.threads
        has_cards = codec.has_cards if isinstance(codec, AutoSlabCodec) else codec is not CPU
        return most_seats(threads) if has_cards else threads

    def coder(self, found: Mapping[int, Found]) -> Coder:
        """Give what codes jobs of these files."""
        return Coder(found, {}, level=self.level, slab_codec=self.slab_codec, team=self.team)


def _choose(place: Workplace, job: SlabJob, found: Mapping[int, Found]) -> tuple[Likely, References]:
    return place.coder(found).choose_pattern(job)


def _code(
    place: Workplace, job: BytesJob | SlabJob, found: Mapping[int, Found], pattern: tuple[Likely, References] | None
) -> tuple[list[Coded], dict[int, bytes]]:
    coder = place.coder(found)
    if isinstance(job, SlabJob) and pattern is not None:
        coder.know_pattern(job, pattern)
    coder.stop()  # no first slab is at work here: who waited for one would wait for ever
    coded = [carry_coded(one) for one in coder.run(job)]
    return coded, coder.digests()


def _code_headers(place: Workplace, job: BytesJob, headers: Sequence[bytes]) -> Coded:
    return carry_coded(encode_headers_of(job, headers, place.level))


def _decode(place: Workplace, codec: int, coded: memoryview, decoded: int, prove: bool) -> Any:
    # A proof is the CPU's, on which an archive must open.
    slab_codec = CPU if prove else place.slab_codec
    with place.team.at_work():
        found = decode_block(BlockCodec(codec), coded, decoded, slab_codec=slab_codec, threads=place.team)
    return Large(memoryview(found))


EARLY_TASKS: Final[Mapping[str, Callable[..., Any]]] = {"look": look_into_plain}
"""What needs no workplace, and can be done before there is one."""

TASKS: Final[Mapping[str, Callable[..., Any]]] = {
    "open": lambda place: None,
    "choose": _choose,
    "code": _code,
    "code headers": _code_headers,
    "decode": _decode,
}
