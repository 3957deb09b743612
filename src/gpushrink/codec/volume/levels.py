"""Levels: which neighbours are looked at, how many classes and contexts, how large a sample is fitted.

Only the tap sets change what a stored slab means (their number is stored in it); every other figure
here steers the encoder alone. Source: docs/format-volume.md, sections "Neighbours" and "Tap sets".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["LEVELS", "REACH_STEPS", "TAP_SETS", "Level", "Tap", "TapSet"]

# A neighbour: (plane role, row step, column step). Role 0 is the plane being coded, 1 its first
# reference plane, 2 its second. In role 0 only samples with t = column + 2 * row below the
# present one may be named (the wavefront), elsewhere t at most REACH_STEPS above it.
Tap = tuple[int, int, int]

REACH_STEPS: Final = 4

_W, _WW, _WWW = (0, 0, -1), (0, 0, -2), (0, 0, -3)
_N, _NW, _NE, _NN = (0, -1, 0), (0, -1, -1), (0, -1, 1), (0, -2, 0)
_NNE, _NNW, _NWW = (0, -2, 1), (0, -2, -1), (0, -1, -2)
_P = (1, 0, 0)
_PN, _PS, _PW, _PE = (1, -1, 0), (1, 1, 0), (1, 0, -1), (1, 0, 1)
_PNW, _PNE, _PSW, _PSE = (1, -1, -1), (1, -1, 1), (1, 1, -1), (1, 1, 1)
_PP = (2, 0, 0)


@dataclass(frozen=True)
class TapSet:
    """Name the neighbours of every stage of the prediction and of the context.

    Parameters
    ----------
    plain
        For each stage, the samples it weighs. The first one is always the western neighbour, whose
        coefficient is not stored: it is what is left of one.
    feedback
        For each stage, (earlier stage, tap): residuals of that stage which it weighs too.
    energy
        Residuals of the last stage whose magnitudes the context weighs.
    steps
        Pairs of samples whose absolute differences the context weighs.
    directions
        Number of gradient direction classes, 1 or 4.
    """

    plain: tuple[tuple[Tap, ...], ...]
    feedback: tuple[tuple[tuple[int, Tap], ...], ...]
    energy: tuple[Tap, ...]
    steps: tuple[tuple[Tap, Tap], ...]
    directions: int

    def within_plane(self) -> TapSet:
        """Return the same set with every neighbour in a reference plane left out."""

        def inside(taps: tuple[Tap, ...]) -> tuple[Tap, ...]:
            return tuple(tap for tap in taps if tap[0] == 0)

        return TapSet(
            plain=tuple(inside(stage) for stage in self.plain),
            feedback=tuple(tuple(pair for pair in stage if pair[1][0] == 0) for stage in self.feedback),
            energy=inside(self.energy),
            steps=tuple(pair for pair in self.steps if pair[0][0] == 0 and pair[1][0] == 0),
            directions=self.directions,
        )


_TWENTY = (_W, _WW, _WWW, _N, _NW, _NE, _NN, _NNE, _NNW, _NWW,
           _PNW, _PN, _PNE, _PW, _P, _PE, _PSW, _PS, _PSE, _PP)  # fmt: skip
_NINE = (_W, _WW, _N, _NW, _NE, _NN, _P, _PW, _PN)
_ECHOES = (_W, _NW, _N, _NE, _WW, _NN, _P, _WWW, _NNE, _NNW, _PW, _PE, _PN, _PS, _PP,
           _PNW, _PNE, _PSW, _PSE, _NWW)  # fmt: skip
_FULL_ENERGY = (_W, _WW, _N, _NE, _NW, _NN, _WWW, _NNE,
                _PNW, _PN, _PNE, _PW, _P, _PE, _PSW, _PS, _PSE, _PP)  # fmt: skip
_FULL_STEPS = ((_W, _NW), (_N, _NW), (_N, _NE), (_N, _NN), (_W, _PW), (_N, _PN), (_P, _PE), (_P, _PS), (_P, _PP))

TAP_SETS: Final[tuple[TapSet, ...]] = (
    TapSet(
        plain=(_NINE,),
        feedback=((),),
        energy=(_W, _N, _NE, _NW, _P),
        steps=((_W, _NW), (_N, _NE)),
        directions=1,
    ),
    TapSet(
        plain=(_TWENTY, _TWENTY),
        feedback=((), tuple((0, tap) for tap in _ECHOES)),
        energy=_FULL_ENERGY,
        steps=_FULL_STEPS,
        directions=4,
    ),
    TapSet(
        plain=(_TWENTY, _TWENTY, _TWENTY),
        feedback=(
            (),
            tuple((0, tap) for tap in _ECHOES),
            tuple((stage, tap) for stage in (0, 1) for tap in _ECHOES),
        ),
        energy=_FULL_ENERGY,
        steps=_FULL_STEPS,
        directions=4,
    ),
)


@dataclass(frozen=True)
class Level:
    """Steer the encoder; nothing here but `tap_set` is needed to decode.

    Parameters
    ----------
    rivals
        Other ways to encode the same slab; the smallest result is kept.
    """

    tap_set: int
    spatial_classes: int
    temporal_classes: int
    energy_levels: int
    samples_per_class: int
    fit_share: float
    fit_least: int
    fit_most: int
    slab_planes: int
    grain: int
    rivals: tuple[Level, ...] = ()


_DEFAULT = Level(
    tap_set=1,
    spatial_classes=6,
    temporal_classes=6,
    energy_levels=24,
    samples_per_class=2000,
    fit_share=0.03,
    fit_least=200_000,
    fit_most=260_000,
    slab_planes=32,
    grain=3,
)

# Small slabs cannot pay for a third stage, nor smaller ones for many classes: "max" tries them all.
_THOROUGH = replace(
    _DEFAULT, spatial_classes=8, temporal_classes=8, fit_share=0.05, fit_most=400_000, energy_levels=32, grain=2
)

LEVELS: Final[dict[str, Level]] = {
    "fast": replace(
        _DEFAULT,
        tap_set=0,
        spatial_classes=3,
        temporal_classes=1,
        energy_levels=13,
        fit_share=0.005,
        fit_least=10_000,
        fit_most=40_000,
    ),
    "default": _DEFAULT,
    "max": replace(
        _THOROUGH,
        tap_set=2,
        samples_per_class=4000,
        fit_share=0.08,
        rivals=(_THOROUGH, _DEFAULT, replace(_DEFAULT, samples_per_class=8000, energy_levels=12)),
    ),
}
