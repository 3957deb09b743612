"""A slab's model, fitted stage after stage; the stages' residuals come with it.

Source: docs/format-volume.md, docs/decisions/volume-codec.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpushrink.codec.parallel import Threads, run_over
from gpushrink.codec.volume import fit
from gpushrink.codec.volume.geometry import Layout, References, fill_edges
from gpushrink.codec.volume.levels import Level
from gpushrink.codec.volume.parameters import Bound, Model, PlaneModel

__all__ = ["Binder", "PlaneRun", "begin_model", "fit_model"]

# Below this many samples coefficients are stored one bit more coarsely.
_SMALL_SLAB: Final = 1 << 20


def begin_model(way: Level, places: int, *, least: int, span: int, start: int, references: References) -> Model:
    """Return a model of which nothing is fitted yet, for planes of so many places in all, edges included."""
    grain = way.grain + int(places < _SMALL_SLAB)
    return Model(way.tap_set, least, span, start, references, np.zeros(0, np.int32), 3, grain, {})


# Planes that one call takes, in samples: enough that calls cost nothing, few enough to go round.
_RUN_SAMPLES: Final = 1 << 19


class PlaneRun(NamedTuple):
    """Name planes first..stop-1, all predicted alike."""

    first: int
    stop: int
    bound: Bound


class Binder:
    """Bind a model's plane models to the raster layout; planes that refer back equally far share what comes out."""

    def __init__(self, model: Model, layout: Layout, stage_size: int) -> None:
        self._model, self._layout, self._stage_size = model, layout, stage_size
        self._bound: dict[tuple[int, int] | None, Bound] = {}

    def bind(self, z: int, pair: tuple[int, int] | None) -> Bound:
        """Bind what predicts plane z from its pair of reference planes."""
        back = None if pair is None else (pair[0] - z, pair[1] - z)
        if back not in self._bound:
            first, second = (0, 0) if back is None else (back[0] * self._layout.size, back[1] * self._layout.size)
            self._bound[back] = self._model.bind(back is not None, self._layout, first, second, self._stage_size)
        return self._bound[back]

    def runs(self, resolved: Sequence[tuple[int, int] | None]) -> list[PlaneRun]:
        """Put planes together that follow each other and are predicted alike, given the pairs of all planes."""
        most = max(1, _RUN_SAMPLES // (self._layout.rows * self._layout.columns))
        runs: list[PlaneRun] = []
        for z, pair in enumerate(resolved):
            bound = self.bind(z, pair)
            if runs and runs[-1].bound is bound and z - runs[-1].first < most:
                runs[-1] = runs[-1]._replace(stop=z + 1)
            else:
                runs.append(PlaneRun(z, z + 1, bound))
        return runs


def fit_model(
    model: Model, steer: Level, kernels: ModuleType, sums: ModuleType, planes: NDArray[np.uint16],
    residuals: NDArray[np.int16], resolved: Sequence[tuple[int, int] | None], layout: Layout, threads: Threads = 1,
) -> None:  # fmt: skip
    """Fit stage after stage; leave the residuals of every stage, edges included, in `residuals`.

    Parameters
    ----------
    kernels, sums
        An engine's `predict_planes`, and what an engine looks up and adds up for a fit.
    planes
        Padded samples, shape (plane, row, column); `residuals` has the stage as a further first axis.
    threads
        Planes predicted at once; never changes the model.
    """
    flat, echoes, stage_size = planes.ravel(), residuals.reshape(-1), planes.size
    drawn = {}
    classes = {}
    for kind in (False, True):
        members = [(z, *(pair or (z, z))) for z, pair in enumerate(resolved) if (pair is not None) == kind]
        if not members:
            continue
        sample = drawn[kind] = fit.draw_sample(members, layout, steer, len(members) / len(resolved))
        activity = sums.measure_activity(sample, flat, kind)
        part = fit.choose_classes(steer, model.taps(kind).directions, activity[0], activity[1], kind, sums.solver)
        model.plane_models[kind] = part
        classes[kind] = _classify(part, activity, model.taps(kind).directions)
        del activity
    for stage in range(model.stage_count):
        for kind, sample in drawn.items():
            part, taps = model.plane_models[kind], model.taps(kind)
            classed = stage > 0 or model.stage_count == 1
            chosen = classes[kind] if classed else np.zeros(len(sample.places), np.uint16)
            count = part.count_classes(taps.directions) if classed else 1
            part.coefficients.append(
                fit.fit_stage(
                    sums,
                    sample,
                    flat,
                    echoes,
                    stage_size,
                    taps,
                    stage,
                    chosen,
                    count,
                    model.grain,
                    model.span,
                    threads,
                )
            )

        def predict(run: PlaneRun, stage: int = stage) -> None:
            at = run.first * layout.size + layout.origin
            kernels.predict_planes(
                flat, echoes, at, run.stop - run.first, layout, stage, stage_size, run.bound, model.span
            )

        run_over(predict, Binder(model, layout, stage_size).runs(resolved), threads=threads)
        fill_edges(residuals[stage], resolved, 0)
    energies = {}
    for kind, sample in drawn.items():
        base = (model.stage_count - 1) * stage_size
        weights, energies[kind] = fit.fit_weights(sums, sample, flat, echoes, base, model.taps(kind))
        model.plane_models[kind].weights = weights
    model.levels = fit.choose_levels(steer, energies, resolved, planes.size, sums.solver)


def _classify(part: PlaneModel, activity: tuple[NDArray[np.int32], ...], directions: int) -> NDArray[np.uint16]:
    spatial, temporal, direction = activity
    found = np.searchsorted(part.spatial, spatial, side="right").astype(np.uint16)
    found *= np.uint16(len(part.temporal) + 1)
    found += np.searchsorted(part.temporal, temporal, side="right").astype(np.uint16)
    if directions == 4:
        found *= np.uint16(4)
        found += direction.astype(np.uint16)
    return found
