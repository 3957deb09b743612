"""A crop keeps every voxel where it is in the patient, and says of itself what it is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_dicom import MARK, ROOT, mark_place, write_enhanced, write_series
from pydicom.dataset import Dataset

from gpushrink.convert import AutoBody, Box, CropOutcome, crop, parse_around, parse_box, parse_mm
from gpushrink.errors import InputError, UsageError

KINDS = ("axial", "tilted", "oblique")
BOX = Box((20, 40), (10, 30), (3, 8))


def place_of_mark(ds: Dataset, frame: int | None = None) -> np.ndarray | None:
    """Give the patient coordinates of the voxel of 3000 in a single frame; None without one."""
    pixels = ds.pixel_array if frame is None else ds.pixel_array[frame]
    found = np.argwhere(pixels == 3000)
    if not len(found):
        return None
    if frame is None:
        position, turn, spacing = ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
    else:
        shared = ds.SharedFunctionalGroupsSequence[0]
        position = ds.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
        turn = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    row, column = np.array(turn[:3], float), np.array(turn[3:], float)
    y, x = found[0]
    return np.array(position, float) + row * float(spacing[1]) * x + column * float(spacing[0]) * y


@pytest.mark.parametrize("kind", KINDS)
def test_crop_of_a_series_keeps_the_marked_voxel_in_place(tmp_path: Path, kind: str) -> None:
    """Whatever the orientation, the mark's patient coordinates stay to a thousandth of a millimetre."""
    source = write_series(tmp_path / "in", kind)
    report = crop(source, tmp_path / "out", region=BOX, seed="s")
    places = [place_of_mark(pydicom.dcmread(p)) for p in (tmp_path / "out").iterdir()]
    (found,) = [p for p in places if p is not None]
    assert np.abs(found - mark_place(kind)).max() < 1e-3
    assert report.count("cropped") == 5
    assert report.count("outside") == 4
    assert list(report.shapes.values()) == [(5, 20, 20)]


@pytest.mark.parametrize("kind", KINDS)
def test_crop_of_a_multiframe_keeps_the_marked_voxel_in_place(tmp_path: Path, kind: str) -> None:
    """Frames in reverse order with per-frame positions are cropped alike, and indices have no gaps."""
    write_enhanced(tmp_path / "in" / "e.dcm", kind)
    crop(tmp_path / "in", tmp_path / "out", region=BOX, seed="s")
    ds = pydicom.dcmread(tmp_path / "out" / "e.dcm")
    assert ds.NumberOfFrames == 5 == len(ds.PerFrameFunctionalGroupsSequence)
    (found,) = [p for p in (place_of_mark(ds, f) for f in range(5)) if p is not None]
    assert np.abs(found - mark_place(kind)).max() < 1e-3
    contents = [g.FrameContentSequence[0] for g in ds.PerFrameFunctionalGroupsSequence]
    assert [c.InStackPositionNumber for c in contents] == [5, 4, 3, 2, 1]
    assert [list(c.DimensionIndexValues) for c in contents] == [[1, n] for n in (5, 4, 3, 2, 1)]
    sources = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in ds.PerFrameFunctionalGroupsSequence]
    assert [s.ReferencedFrameNumber for s in sources] == [2, 3, 4, 5, 6]


def test_crop_changes_the_uids_it_must_and_no_other(tmp_path: Path) -> None:
    """SOP and series UIDs are new, study and frame of reference stay, the source is named with its purpose."""
    source = write_series(tmp_path / "in", "axial")
    crop(source, tmp_path / "out", region=BOX, seed="s")
    series = set()
    for path in (tmp_path / "out").iterdir():
        old, new = pydicom.dcmread(source / path.name), pydicom.dcmread(path)
        assert new.SOPInstanceUID != old.SOPInstanceUID
        assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
        assert (new.StudyInstanceUID, new.FrameOfReferenceUID) == (old.StudyInstanceUID, old.FrameOfReferenceUID)
        assert new.SOPClassUID == old.SOPClassUID
        (ref,) = new.SourceImageSequence
        assert ref.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert ref.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert list(new.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
        assert (new.SmallestImagePixelValue, new.LargestImagePixelValue) == (
            int(new.pixel_array.min()),
            int(new.pixel_array.max()),
        )
        series.add(new.SeriesInstanceUID)
    assert len(series) == 1
    assert series != {f"{ROOT}.200"}


def uids(ds: Dataset, path: str = "") -> dict[str, str]:
    """List every UID of a data set by its place in it, but for the account of where a crop came from."""
    found = {}
    for element in ds:
        place = f"{path}/{element.keyword or element.tag}"
        if element.VR == "SQ" and element.keyword not in (
            "SourceImageSequence",
            "DerivationImageSequence",
            "SourceImageEvidenceSequence",
        ):
            for index, item in enumerate(element.value):
                found |= uids(item, f"{place}{index}")
        elif element.VR == "UI":
            found[place] = str(element.value)
    return found


@pytest.mark.parametrize("multiframe", [False, True])
def test_every_other_uid_stays(tmp_path: Path, multiframe: bool) -> None:
    """References to other objects, synchronization and frames of reference are those of the source."""

    def add(ds: Dataset, index: int) -> None:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{ROOT}.7"
        ds.ReferencedImageSequence, ds.SynchronizationFrameOfReferenceUID = [reference], f"{ROOT}.301"
        ds.IrradiationEventUID, ds.InstanceCreatorUID = f"{ROOT}.302", f"{ROOT}.303"

    if multiframe:
        path = write_enhanced(tmp_path / "in" / "00.dcm", "axial")
        ds = pydicom.dcmread(path)
        add(ds, 0)
        ds.save_as(path)
    else:
        write_series(tmp_path / "in", "axial", change=add)
    crop(tmp_path / "in", tmp_path / "out", region=BOX, seed="s")
    for path in (tmp_path / "out").iterdir():
        old, new = (uids(pydicom.dcmread(folder / path.name)) for folder in (tmp_path / "in", tmp_path / "out"))
        assert old.keys() == new.keys()
        assert len(old) >= 9
        assert {k for k in old if old[k] != new[k]} == {"/SOPInstanceUID", "/SeriesInstanceUID"}


def test_interrupted_crop_leaves_nothing(tmp_path: Path) -> None:
    """Half a series would pass for a whole one: what was written before the interruption goes."""

    def stop(done: int, total: int, outcome: CropOutcome) -> None:
        if done == 4:
            assert list((tmp_path / "out").iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crop(write_series(tmp_path / "in", "axial"), tmp_path / "out", region=BOX, progress=stop)
    assert not list((tmp_path / "out").iterdir())


def test_crop_with_one_seed_writes_the_same_bytes_again(tmp_path: Path) -> None:
    """A run can be repeated to the byte; another seed or another box gives other UIDs."""
    source = write_series(tmp_path / "in", "axial")
    when = datetime(2020, 1, 2, 3, 4, 5)

    def run(name: str, seed: str, box: Box) -> dict[str, bytes]:
        crop(source, tmp_path / name, region=box, seed=seed, created=when)
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}

    first = run("a", "s", BOX)
    assert run("b", "s", BOX) == first
    assert run("c", "t", BOX) != first
    other = run("d", "s", Box((20, 40), (10, 30), (3, 7)))
    uids = [{pydicom.dcmread(tmp_path / n / f).SOPInstanceUID for f in (first if n == "a" else other)} for n in "ad"]
    assert not uids[0] & uids[1]


def test_crop_moves_an_overlay_with_its_pixels(tmp_path: Path) -> None:
    """The overlay's bits are those that lay over the kept pixels, its origin counts from the new corner."""
    plane = np.zeros((40, 48), np.uint8)
    plane[MARK[1], MARK[2]] = 1

    def add(ds: Dataset, index: int) -> None:
        ds.add_new((0x6000, 0x0010), "US", 40)
        ds.add_new((0x6000, 0x0011), "US", 48)
        ds.add_new((0x6000, 0x0040), "CS", "G")
        ds.add_new((0x6000, 0x0050), "SS", [1, 1])
        ds.add_new((0x6000, 0x0100), "US", 1)
        ds.add_new((0x6000, 0x0102), "US", 0)
        ds.add_new((0x6000, 0x3000), "OW", np.packbits(plane, axis=None, bitorder="little").tobytes())

    crop(write_series(tmp_path / "in", "axial", change=add), tmp_path / "out", region=BOX, seed="s")
    for path in (tmp_path / "out").iterdir():
        ds = pydicom.dcmread(path)
        assert list(ds[0x6000, 0x0050].value) == [1, 1]
        assert np.argwhere(ds.overlay_array(0x6000)).tolist() == [[MARK[1] - 10, MARK[2] - 20]]


@pytest.mark.parametrize("kind", KINDS)
def test_box_in_millimetres_has_the_voxels_whose_centres_lie_inside(tmp_path: Path, kind: str) -> None:
    """Around the mark, in patient coordinates: the mark is in the crop, and no kept edge is empty of the region."""
    x, y, z = mark_place(kind)
    region = parse_around(f"{x:.4f},{y:.4f},{z:.4f}", "8")
    crop(write_series(tmp_path / "in", kind), tmp_path / "out", region=region, seed="s")
    found = [place_of_mark(pydicom.dcmread(p)) for p in (tmp_path / "out").iterdir()]
    assert sum(p is not None for p in found) == 1
    sizes = {pydicom.dcmread(p).pixel_array.shape for p in (tmp_path / "out").iterdir()}
    if kind == "axial":
        assert sizes == {(11, 9)}  # 8 mm at 0.7 and 0.9 mm, centred on a voxel
        assert len(found) == 3


def test_auto_body_finds_the_block_and_not_the_speck(tmp_path: Path) -> None:
    """The box holds the largest connected thing, with its margin, and leaves a brighter speck out."""

    def paint(ds: Dataset, index: int) -> None:
        pixels = np.full((40, 48), -1000, np.int16)
        pixels[0:2, 0:2] = 3000
        if 2 <= index < 7:
            pixels[12:30, 15:35] = 50
        ds.PixelData = pixels.tobytes()

    report = crop(
        write_series(tmp_path / "in", "axial", change=paint), tmp_path / "out", region=AutoBody(margin_mm=0), seed="s"
    )
    assert list(report.boxes.values()) == [((15, 35), (12, 30), (2, 7))]


def test_preview_draws_three_projections_and_no_images(tmp_path: Path) -> None:
    """The preview is a PNG that any library opens, with the red box in it."""
    ic = pytest.importorskip("imagecodecs")
    crop(
        write_series(tmp_path / "in", "oblique"),
        tmp_path / "out",
        region=BOX,
        preview=tmp_path / "p.png",
        preview_only=True,
    )
    picture = ic.png_decode((tmp_path / "p.png").read_bytes())
    assert picture.shape[2] == 3
    assert (picture == (255, 48, 32)).all(axis=2).sum() > 300
    assert not (tmp_path / "out").exists()


def test_crop_refuses_what_points_at_the_series_and_names_it(tmp_path: Path) -> None:
    """A segmentation is left out of the result and the report says why; the images are cropped."""
    source = write_series(tmp_path / "in", "axial")
    ds = pydicom.dcmread(next(source.iterdir()))
    ds.Modality, ds.SOPInstanceUID = "SEG", f"{ROOT}.9"
    ds.save_as(source / "seg.dcm")
    (source / "note.txt").write_text("hello")
    report = crop(source, tmp_path / "out", region=BOX, seed="s")
    refused = {o.path: o.reason for o in report.files if o.action == "refused"}
    assert set(refused) == {"seg.dcm", "note.txt"}
    assert "segmentation" in refused["seg.dcm"]
    assert not (tmp_path / "out" / "seg.dcm").exists()


def test_crop_refuses_burned_in_annotation_until_it_is_accepted(tmp_path: Path) -> None:
    """A crop may keep or lose burned-in text: nothing is done until somebody looked; the flag stays."""
    source = write_series(tmp_path / "in", "axial", change=lambda ds, i: setattr(ds, "BurnedInAnnotation", "YES"))
    with pytest.raises(InputError, match="burned-in"):
        crop(source, tmp_path / "out", region=BOX)
    crop(source, tmp_path / "out", region=BOX, accept_burned_in=True)
    assert all(pydicom.dcmread(p).BurnedInAnnotation == "YES" for p in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(("modality", "refused"), [("US", True), ("SC", True), ("CT", False), ("MR", False)])
def test_crop_refuses_ultrasound_and_captures_that_do_not_say(tmp_path: Path, modality: str, refused: bool) -> None:
    """Where annotation is often burned in, silence is no denial; "NO" is one."""
    source = write_series(tmp_path / "in", "axial", change=lambda ds, i: setattr(ds, "Modality", modality))
    if refused:
        with pytest.raises(InputError, match="does not say whether annotation is burned in"):
            crop(source, tmp_path / "out", region=BOX)
        for path in source.iterdir():
            ds = pydicom.dcmread(path)
            ds.BurnedInAnnotation = "NO"
            ds.save_as(path)
    assert crop(source, tmp_path / "out", region=BOX).count("cropped") == 5


def test_crop_with_a_truncated_slice_writes_nothing(tmp_path: Path) -> None:
    """A series with a hole would pass for a whole one."""
    source = write_series(tmp_path / "in", "axial")
    ds = pydicom.dcmread(source / "08.dcm")
    ds.PixelData = ds.PixelData[:-10]
    ds.save_as(source / "08.dcm")
    with pytest.raises(InputError, match="truncated"):
        crop(source, tmp_path / "out", region=Box((20, 40), (10, 30)))
    assert not list((tmp_path / "out").rglob("*.dcm"))


@pytest.mark.parametrize("box", [Box((0, 49), (0, 40)), Box((5, 5), (0, 40)), Box((0, 9), (0, 9), (4, 10))])
def test_box_outside_the_image_is_refused_not_clipped(tmp_path: Path, box: Box) -> None:
    """A box that does not fit is an error of the caller's."""
    with pytest.raises(UsageError, match="leaves the image"):
        crop(write_series(tmp_path / "in", "axial"), tmp_path / "out", region=box)


def test_slices_of_two_orientations_are_refused(tmp_path: Path) -> None:
    """No one box fits slices that are not parallel."""

    def turn(ds: Dataset, index: int) -> None:
        if index == 4:
            ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    with pytest.raises(UsageError, match="orientation"):
        crop(write_series(tmp_path / "in", "axial", change=turn), tmp_path / "out", region=BOX)


@pytest.mark.parametrize("text", ["1:2", "1:2,3", "a:b,1:2", "1:2,3:4,5:6,7:8", "-1:2,0:3", ""])
def test_box_of_a_wrong_form_is_a_usage_error(text: str) -> None:
    """Nothing is guessed from a malformed box."""
    with pytest.raises(UsageError):
        parse_box(text)


@pytest.mark.parametrize("text", ["1:2,3:4", "2:1,0:1,0:1", "1:2,3:4,5", "x"])
def test_millimetres_of_a_wrong_form_are_a_usage_error(text: str) -> None:
    """Nothing is guessed from a malformed region."""
    with pytest.raises(UsageError):
        parse_mm(text)


def test_pet_slices_are_counted_anew(tmp_path: Path) -> None:
    """NumberOfSlices is that of the crop, ImageIndex runs from 1 without a gap."""

    def add(ds: Dataset, index: int) -> None:
        ds.Modality, ds.SeriesType = "PT", ["WHOLE BODY", "IMAGE"]
        ds.NumberOfSlices, ds.ImageIndex = 9, index + 1

    crop(write_series(tmp_path / "in", "axial", change=add), tmp_path / "out", region=BOX, seed="s")
    new = [pydicom.dcmread(p) for p in (tmp_path / "out").iterdir()]
    assert {ds.NumberOfSlices for ds in new} == {5}
    assert sorted(ds.ImageIndex for ds in new) == [1, 2, 3, 4, 5]


def test_dynamic_pet_keeps_all_its_slices_or_is_refused(tmp_path: Path) -> None:
    """ImageIndex counts slices and times in one number, which a dropped slice would break."""
    source = write_series(
        tmp_path / "in", "axial", change=lambda ds, i: setattr(ds, "SeriesType", ["DYNAMIC", "IMAGE"])
    )
    with pytest.raises(UsageError, match="dynamic"):
        crop(source, tmp_path / "out", region=BOX)
    assert crop(source, tmp_path / "out", region=Box((20, 40), (10, 30))).count("cropped") == 9


def test_shutters_and_ultrasound_regions_move_with_the_corner(tmp_path: Path) -> None:
    """What counts in pixels counts from the new corner; a region outside is gone, a cut one keeps its reference."""

    def add(ds: Dataset, index: int) -> None:
        ds.ShutterShape, ds.ShutterLeftVerticalEdge, ds.ShutterUpperHorizontalEdge = "RECTANGULAR", 25, 15
        ds.VerticesOfThePolygonalShutter = [12, 22, 13, 23]  # row, column, row, column
        regions = []
        for x0, y0, x1, y1 in ((10, 5, 30, 25), (0, 0, 5, 5)):
            region = Dataset()
            region.RegionLocationMinX0, region.RegionLocationMinY0 = x0, y0
            region.RegionLocationMaxX1, region.RegionLocationMaxY1 = x1, y1
            region.ReferencePixelX0, region.ReferencePixelY0 = 12, 8
            regions.append(region)
        ds.SequenceOfUltrasoundRegions = regions

    crop(write_series(tmp_path / "in", "axial", change=add), tmp_path / "out", region=BOX, seed="s")
    ds = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert (ds.ShutterLeftVerticalEdge, ds.ShutterUpperHorizontalEdge) == (5, 5)
    assert list(ds.VerticesOfThePolygonalShutter) == [2, 2, 3, 3]
    (region,) = ds.SequenceOfUltrasoundRegions
    assert (region.RegionLocationMinX0, region.RegionLocationMaxX1) == (0, 10)
    assert (region.RegionLocationMinY0, region.RegionLocationMaxY1) == (0, 15)
    # The pixel referred to was at (10 + 12, 5 + 8) of the source, and is at (2, 3) of the crop.
    assert (region.ReferencePixelX0, region.ReferencePixelY0) == (2, 3)
