"""Predictions of a run of samples: both engines', for any number of samples, classes and neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from gpushrink.codec.volume import reference
from gpushrink.codec.volume.geometry import Layout
from gpushrink.codec.volume.levels import TAP_SETS
from gpushrink.codec.volume.parameters import Model, PlaneModel

pytest.importorskip("numba")

from gpushrink.codec.volume import numba_predict  # noqa: E402

ROWS, COLUMNS = 7, 47
# Wider than any slab's: of totals cut off, which negative ones are, only the sign is compared.
SPAN = 1 << 20


@pytest.mark.parametrize(
    "layout", [Layout.raster(ROWS, COLUMNS), Layout.wavefront(ROWS, COLUMNS)], ids=["raster", "wave"]
)
@pytest.mark.parametrize("class_count", [1, 2, 3, 6, 7, 64])
@pytest.mark.parametrize("has_references", [False, True])
@pytest.mark.parametrize("tap_set", range(len(TAP_SETS)))
def test_prediction_of_any_run_is_the_same_in_both_engines(
    tap_set: int, has_references: bool, class_count: int, layout: Layout
) -> None:
    """Coefficients of all 32 bits, samples and residuals of all 16, wrap around alike."""
    draw = np.random.default_rng([tap_set, has_references, class_count, layout.row_step])
    whole = np.iinfo(np.int32)
    model = Model(tap_set, 0, 65535, 0, ((1, 2),), np.zeros(0, np.int32), 1, 0, {})
    taps = model.taps(has_references)
    tables = [
        draw.integers(whole.min, whole.max, (class_count, len(plain) - 1 + len(echoes)), np.int32, endpoint=True)
        for plain, echoes in zip(taps.plain, taps.feedback, strict=True)
    ]
    none = np.zeros(0, np.int32)
    model.plane_models[has_references] = PlaneModel(none, none, tables)
    stage_size = 4 * layout.size
    bound = model.bind(has_references, layout, -layout.size, -2 * layout.size, stage_size)
    samples = draw.integers(0, 65536, stage_size).astype(np.uint16)
    residuals = draw.integers(-32768, 32768, 3 * stage_size).astype(np.int16)
    room = np.empty((3, 40), np.int32)
    at = 2 * layout.size + layout.origin + 2 * layout.row_step
    for stage in range(model.stage_count):
        for count in (1, 3, 4, 7, 8, 11, 12, 13, 29, 40):
            classes = draw.integers(0, class_count, count).astype(np.int32)
            expected = reference.predict(samples, residuals, at, count, stage, classes.astype(np.int64), bound, SPAN)
            total = np.full(count + 8, 77, np.int32)
            numba_predict.predict(
                samples, residuals, at, count, bound.stages[stage], classes, bound.coefficients, bound.offsets,
                SPAN, total[:count], room,
            )  # fmt: skip
            np.testing.assert_array_equal(total[:count], expected)
            assert (total[count:] == 77).all()


def test_vectors_are_loaded_from_no_array_but_those_they_are_made_for() -> None:
    """Strided arrays and elements of other sizes would be read as what they are not."""
    import numba
    from numba.core.errors import TypingError

    from gpushrink.codec.volume.numba_lanes import TAPS, add_to_eight

    @numba.njit
    def call(values, offsets, table, rows, total):  # type: ignore[no-untyped-def]
        add_to_eight(values, np.uint64(0), offsets, np.uint64(0), table, rows, np.uint64(0), total)

    right = [np.ones(8, np.int16), np.zeros(TAPS, np.int64), np.ones(TAPS, np.int32), *np.zeros((2, 8), np.int32)]
    call(*right)
    assert (right[4] == TAPS).all()
    for place, wrong in enumerate([np.ones(8, np.int32), np.zeros(TAPS, np.int32), *[np.ones(16, np.int32)[::2]] * 3]):
        with pytest.raises(TypingError):
            call(*right[:place], wrong, *right[place + 1 :])
