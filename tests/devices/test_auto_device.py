"""``auto`` begins on the CPU and goes over to cards that prove themselves: the same bytes throughout."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpushrink.codec.buffers import Buffer, Parts
from gpushrink.codec.table import CPU
from gpushrink.codec.volume.slab import CHAIN, encode_slab
from gpushrink.errors import CorruptError
from gpushrink.pipeline import device as resolving
from gpushrink.pipeline.auto_device import AutoSlabCodec
from gpushrink.pipeline.device import open_slab_codec


class Cards:
    """Stand in for cards: the CPU's codec, counted; it may lie."""

    name = "cards"

    def __init__(self, *, lies: bool = False) -> None:
        self.calls, self.lies = 0, lies

    def encode(
        self, stack: NDArray[Any], *, level: str, references: Sequence[tuple[int, int]], threads: int = 1
    ) -> Parts:
        """Encode."""
        self.calls += 1
        coded = CPU.encode(stack, level=level, references=references)
        return (*coded[:-1], bytes(coded[-1])[:-1] + b"?") if self.lies else coded

    def decode(
        self, payload: Buffer, *, shape: tuple[int, int, int], dtype: np.dtype[Any], threads: Any = 1
    ) -> NDArray[Any]:
        """Decode."""
        self.calls += 1
        return CPU.decode(payload, shape=shape, dtype=dtype)


STACK = np.arange(2 * 9 * 11, dtype=np.int16).reshape(2, 9, 11) ** 2 % 97


def opened(codec: AutoSlabCodec) -> AutoSlabCodec:
    """Wait until the cards were opened, or were not."""
    assert codec._opener is not None
    codec._opener.join(60)
    assert not codec._opener.is_alive()
    return codec


def test_auto_goes_over_to_cards_after_enough_bytes_and_they_are_proven_first() -> None:
    """The first slabs are the CPU's; then the cards are tried at this level, and take over."""
    cards, expected = Cards(), encode_slab(STACK, level="fast")
    codec = AutoSlabCodec(lambda: cards, worthwhile_bytes=2 * STACK.nbytes)
    assert b"".join(codec.encode(STACK, level="fast", references=CHAIN)) == expected
    assert codec._opener is None
    assert b"".join(codec.encode(STACK, level="fast", references=CHAIN)) == expected
    tried = opened(codec) and cards.calls
    assert tried == 2
    assert b"".join(codec.encode(STACK, level="fast", references=CHAIN)) == expected
    assert (codec.decode(expected, shape=(2, 9, 11), dtype=STACK.dtype) == STACK).all()
    assert cards.calls == tried + 2
    assert codec.name.endswith("then cards")


@pytest.mark.parametrize("failure", ["lies", "none", "error"])
def test_auto_stays_on_the_cpu_where_cards_do_not_prove_themselves(failure: str) -> None:
    """A card that writes other bytes, none at all, or a driver that raises: the CPU does all, and all is right."""

    def open_cards() -> Cards | None:
        if failure == "error":
            raise RuntimeError("driver")
        return Cards(lies=True) if failure == "lies" else None

    codec = AutoSlabCodec(open_cards, worthwhile_bytes=1)
    expected = encode_slab(STACK)
    assert b"".join(codec.encode(STACK, level="default", references=CHAIN)) == expected
    assert b"".join(opened(codec).encode(STACK, level="default", references=CHAIN)) == expected
    assert codec.name == CPU.name


def test_auto_goes_back_to_the_cpu_when_a_card_fails_later() -> None:
    """A driver's error after the cards took over costs no slab: the CPU does it, and all that follow."""

    class Failing(Cards):
        def encode(self, stack: NDArray[Any], **options: Any) -> Parts:
            if self.calls >= 2:
                raise RuntimeError("an illegal memory access was encountered")
            return super().encode(stack, **options)

    cards, expected = Failing(), encode_slab(STACK)
    codec = AutoSlabCodec(lambda: cards, worthwhile_bytes=1)
    codec.encode(STACK, level="default", references=CHAIN)
    opened(codec)
    assert codec._cards is cards
    assert b"".join(codec.encode(STACK, level="default", references=CHAIN)) == expected
    assert codec._cards is None
    assert b"".join(codec.encode(STACK, level="default", references=CHAIN)) == expected


def test_auto_leaves_damage_to_be_told() -> None:
    """A damaged payload is the archive's fault, not the card's: the error is the CPU's, and the card goes on."""

    class Careful(Cards):
        def decode(self, payload: Buffer, **options: Any) -> NDArray[Any]:
            if len(payload) == 3:
                raise CorruptError("damaged")
            return super().decode(payload, **options)

    cards = Careful()
    codec = AutoSlabCodec(lambda: cards, worthwhile_bytes=1)
    codec.encode(STACK, level="fast", references=CHAIN)
    opened(codec)
    with pytest.raises(CorruptError):
        codec.decode(b"bad", shape=(2, 9, 11), dtype=STACK.dtype)
    assert codec._cards is cards


def test_auto_does_not_open_cards_for_work_that_has_ended() -> None:
    """What is still opening when the work ends is given up at the next step."""
    go, cards = threading.Event(), Cards()

    def open_cards() -> Cards:
        assert go.wait(60)
        return cards

    codec = AutoSlabCodec(open_cards, worthwhile_bytes=1)
    codec.encode(STACK, level="fast", references=CHAIN)
    codec.finish()
    go.set()
    opened(codec)
    assert cards.calls == 0


def test_auto_opens_cards_once_and_nobody_waits_for_them() -> None:
    """While they open, and if they never do, slabs are coded by the CPU."""
    go, times = threading.Event(), []

    def open_cards() -> None:
        times.append(1)
        assert go.wait(60)

    codec = AutoSlabCodec(open_cards, worthwhile_bytes=1)
    for _ in range(3):
        codec.encode(STACK, level="fast", references=CHAIN)
    assert len(times) == 1
    go.set()
    opened(codec)


def test_auto_without_packages_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a card's packages could do is not even thought of without them."""
    monkeypatch.setattr(resolving, "has_cuda_packages", lambda: False)
    assert open_slab_codec("auto") is CPU
    monkeypatch.setattr(resolving, "has_cuda_packages", lambda: True)
    assert isinstance(open_slab_codec("auto"), AutoSlabCodec)
