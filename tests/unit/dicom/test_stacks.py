"""Images become the volumes that a reader would call so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpushrink.dicom.geometry import Plane, Rescale, lay_grid
from gpushrink.dicom.header import ImageHeader, PixelLayout
from gpushrink.dicom.stacks import arrange_stacks

PIXELS = PixelLayout(
    frames=1,
    rows=4,
    columns=5,
    components=1,
    planar=False,
    dtype="int16",
    bits_stored=16,
    high_bit=15,
    big_endian=False,
    native=True,
    offset=1000,
    length=40,
    photometric="MONOCHROME2",
    syntax="1.2.840.10008.1.2.1",
)


def image(
    z: float | None, *, number: int = 0, times: tuple[int, int, int] = (0, 0, 0), **changes: object
) -> ImageHeader:
    """Return the header of an axial slice at z."""
    plane = None if z is None else Plane((0.0, 0.0, z), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0), 2.0)
    header = ImageHeader(
        instance=f"1.{number}.{z}",
        study="1",
        series="1.2",
        series_number=1,
        description="",
        modality="MR",
        image_type="ORIGINAL",
        number=number,
        times=times,
        pixels=PIXELS,
        planes=(plane,),
        slopes=(None,),
        unit="",
    )
    return replace(header, **changes)  # type: ignore[arg-type]


def files(headers: list[ImageHeader], digests: dict[int, bytes] | None = None) -> list[tuple[int, ...]]:
    """Return the ids of each volume."""
    return [stack.files for stack in arrange_stacks(dict(enumerate(headers)), digests or {})]


def test_slices_come_by_position_not_by_number() -> None:
    """InstanceNumber may run against the normal."""
    assert files([image(3.0, number=1), image(1.0, number=2), image(2.0, number=3)]) == [(1, 2, 0)]


def test_slices_without_position_come_by_number_then_name() -> None:
    """They are a volume of their own beside those that tell their place."""
    headers = [image(None, number=3), image(9.0, number=1), image(None, number=3), image(None, number=1), image(1.0)]
    assert files(headers) == [(3, 0, 2), (4, 1)]


def test_places_repeated_evenly_split_by_the_tag_that_tells_them_apart() -> None:
    """The tag that gives every part each place once is chosen; one that only numbers slices is not."""
    headers = [
        image(z, number=10 * echo + int(z), times=(echo, 0, int(z) + 7)) for echo in (2, 1) for z in (0.0, 1.0, 2.0)
    ]
    assert files(headers) == [(3, 4, 5), (0, 1, 2)]  # in the order of the echoes, not of the names
    both = [image(z, times=(echo, time, 0)) for time in (1, 2) for echo in (1, 2) for z in (0.0, 1.0)]
    assert files(both) == [(0, 1), (4, 5), (2, 3), (6, 7)]  # by echo, then by time


def test_places_repeated_without_a_tag_split_by_number() -> None:
    """The first of each place, the second of each, and so on; the last part may be short."""
    headers = [image(z, number=k) for k, z in enumerate([0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0])]
    assert files(headers) == [(0, 1, 2), (3, 4, 5), (6,)]


@pytest.mark.parametrize(
    "changes",
    [
        {"image_type": "DERIVED"},
        {"series": "1.3"},
        {"pixels": replace(PIXELS, dtype="uint16")},
        {"pixels": replace(PIXELS, rows=5)},
        {"pixels": replace(PIXELS, photometric="MONOCHROME1")},
        {"planes": (Plane((0.0, 0.0, 5.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 1.0)),)},
        {"planes": (Plane((0.0, 0.0, 5.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (2.0, 2.0)),)},
    ],
)
def test_what_differs_in_kind_is_another_volume(changes: dict[str, object]) -> None:
    """Type, format, orientation and spacing must be one."""
    assert files([image(0.0), image(1.0), image(2.0, **changes)]) == [(0, 1), (2,)]


def test_nearly_equal_orientations_are_one() -> None:
    """Headers round."""
    near = Plane((0.0, 0.0, 2.0), (0.99999, 0.0003, 0.0), (-0.0003, 0.99999, 0.0), (1.0, 1.0))
    assert files([image(0.0), image(1.0), image(2.0, planes=(near,))]) == [(0, 1, 2)]


def test_copies_count_once_and_only_if_their_bytes_are_the_same() -> None:
    """The same instance with other bytes is kept."""
    headers = [image(0.0), image(1.0), image(0.0)]
    assert files(headers, {0: b"a", 1: b"b", 2: b"a"}) == [(0, 1)]
    assert files(headers, {0: b"a", 1: b"b", 2: b"c"}) == [(0, 1), (2,)]


def test_multi_frame_objects_and_images_without_series_stand_alone() -> None:
    """They are in no series with anything else."""
    many = image(0.0, pixels=replace(PIXELS, frames=3), planes=(None,) * 3, slopes=(None,) * 3)
    assert files([image(0.0), many, image(1.0), image(2.0, series=""), image(3.0, series="")]) == [
        (0, 2),
        (1,),
        (3,),
        (4,),
    ]


def plane(x: float, y: float, z: float, thickness: float = 0.0) -> Plane:
    """Return an axial plane."""
    return Plane((x, y, z), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.6), thickness)


def test_tilted_gantry_leans_the_slice_axis() -> None:
    """With a tilt, positions walk sideways: the affine follows them, and spacing is along the walk."""
    geometry = lay_grid([plane(0, 4.0 * k, 3.0 * k) for k in range(5)])
    assert geometry is not None
    assert geometry.spacing == pytest.approx((5.0, 0.5, 0.6))
    assert geometry.direction[0] == pytest.approx((0, 0.8, 0.6))
    assert (geometry.affine @ [2, 0, 0, 1]).tolist() == pytest.approx([0, 8, 6, 1])


def test_single_slice_is_as_thick_as_its_header_says() -> None:
    """Without a thickness there is no third axis, and no grid."""
    geometry = lay_grid([plane(1, 2, 3, thickness=7.0)])
    assert geometry is not None
    assert geometry.spacing == (7.0, 0.5, 0.6)
    assert geometry.direction[0] == (0.0, 0.0, 1.0)
    assert lay_grid([plane(1, 2, 3)]) is None


def test_what_lies_on_no_grid_has_none() -> None:
    """A gap, a repeated place, an unplaced slice, a slice turned, no spacing: no affine would be right."""
    even = [plane(0, 0, float(k)) for k in range(5)]
    assert lay_grid(even) is not None
    assert lay_grid([*even, plane(0, 0, 6.0)]) is None
    assert lay_grid([even[0]] * 3) is None
    assert lay_grid([*even, None]) is None
    assert lay_grid([*even[:4], replace(even[4], along_row=(0.0, 1.0, 0.0), along_column=(-1.0, 0.0, 0.0))]) is None
    assert lay_grid([replace(one, spacing=None) for one in even]) is None
    assert lay_grid([]) is None


def test_rescale_is_uniform_only_if_all_slices_agree() -> None:
    """PET scales each slice by itself."""
    assert Rescale((2.0, 2.0), (1.0, 1.0), "HU").uniform == (2.0, 1.0)
    assert Rescale((2.0, 3.0), (1.0, 1.0)).uniform is None
    assert Rescale((2.0, 2.0), (1.0, 1.0), "HU").as_json() == {"slope": 2.0, "intercept": 1.0, "unit": "HU"}
    assert Rescale((2.0, 3.0), (1.0, 1.0)).as_json()["slope"] == (2.0, 3.0)
