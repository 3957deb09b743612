"""Plain files are read without pydicom, and what is read is what pydicom reads."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

import trees
from gpushrink.dicom import elements
from gpushrink.dicom.elements import _SEQUENCES
from gpushrink.dicom.plain import _WANTED, PlainReader
from gpushrink.dicom.spans import describe, describe_by_pydicom

IMAGE = np.arange(120, dtype=np.uint16).reshape(12, 10)
PYDICOM_FILES = sorted(
    path for path in (Path(pydicom.data.__file__).parent / "test_files").rglob("*") if path.is_file()
)


def compare(content: bytes, reader: PlainReader, ahead: int = 1 << 16) -> bool:
    """Insist that both ways agree; tell whether pydicom was not needed."""
    if len(content) < 8 or content[128:132] != b"DICM":
        return False
    head = content[:ahead]
    plain = reader.read(io.BytesIO(content), len(content), head)
    if plain is not None:
        ours = describe(io.BytesIO(content), len(content), head, reader=reader)
        assert ours == describe_by_pydicom(io.BytesIO(content), len(content))
    return plain is not None


def rich_file(syntax: str = ExplicitVRLittleEndian, *, tail: bytes = b"") -> bytes:
    """Make a file that has sequences of both lengths, private elements and every value that counts."""
    data = pydicom.dcmread(io.BytesIO(trees.dicom_bytes(IMAGE, syntax=syntax, z=4.5)))
    data.SpecificCharacterSet, data.ImageType = "ISO_IR 100", ["ORIGINAL", "PRIMARY", "M_FFE"]
    data.EchoNumbers, data.AcquisitionNumber, data.TemporalPositionIdentifier = 2, "", "+3"
    data.SliceLocation = "-1.5e1"
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "inner"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner, Dataset()])
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    data.ReferencedImageSequence = Sequence([outer, inner])
    data["ReferencedImageSequence"].is_undefined_length = True
    data.private_block(0x2001, "maker", create=True).add_new(1, "SQ", Sequence([inner]))
    data[0x2001, 0x1001].is_undefined_length = True
    out = io.BytesIO()
    data.save_as(out)
    return out.getvalue() + tail


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("tail", [b"", b"1234567", b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0abcd"])
def test_rich_file_is_read_without_pydicom_and_alike(syntax: str, tail: bytes) -> None:
    """Nested sequences of undefined length, private ones and trailing padding are plain."""
    if syntax == ImplicitVRLittleEndian and len(tail) > 8:
        tail = b"\xfc\xff\xfc\xff\4\0\0\0abcd"
    assert compare(rich_file(syntax, tail=tail), PlainReader())


def test_compressed_file_is_read_without_pydicom_and_alike() -> None:
    """Fragments are followed to their end mark."""
    data = pydicom.dcmread(io.BytesIO(trees.dicom_bytes(IMAGE)))
    data.compress(RLELossless)
    out = io.BytesIO()
    data.save_as(out)
    content = out.getvalue()
    assert compare(content, PlainReader())
    assert not compare(content[:-9], PlainReader())


def test_header_longer_than_what_was_read_ahead_is_read_on() -> None:
    """The walk asks for more bytes and begins again."""
    data = pydicom.dcmread(io.BytesIO(rich_file()))
    data.add_new((0x0009, 0x0010), "LO", "maker")
    data.add_new((0x0009, 0x1001), "OB", bytes(200_000))
    out = io.BytesIO()
    data.save_as(out)
    assert compare(out.getvalue(), PlainReader(), ahead=300)
    assert compare(out.getvalue(), PlainReader())


def test_file_without_its_mark_is_left_alone_whatever_came_before() -> None:
    """File meta information that is known already does not stand for the mark in front of it."""
    content = rich_file()
    unmarked = content[:128] + b"DICN" + content[132:]
    reader = PlainReader()
    for ahead in (content, unmarked, content):
        found = reader.read(io.BytesIO(ahead), len(ahead), ahead[: 1 << 16])
        assert (found is not None) == (ahead is content)


def test_every_pydicom_file_is_read_alike() -> None:
    """Of pydicom's own files, odd by choice, most are plain, and those agree."""
    reader = PlainReader()
    plain = sum(compare(path.read_bytes(), reader) for path in PYDICOM_FILES)
    assert plain > len(PYDICOM_FILES) // 2


def test_every_real_file_is_read_alike(real_set: Path) -> None:
    """Of the real data too; where it is not odd by choice, pydicom is needed for few."""
    reader, count, plain = PlainReader(), 0, 0
    for path in sorted(real_set.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            count += content[128:132] == b"DICM"
            plain += compare(content, reader)
    assert plain >= 0.9 * count or real_set.name.startswith("odd-")


@pytest.mark.parametrize("seed", range(4))
def test_changed_files_are_read_alike_or_by_pydicom(seed: int) -> None:
    """Bytes changed, cut out and put in: whatever is still read without pydicom is read as pydicom does."""
    source = random.Random(seed)
    marks = (
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\xfe\xff\xdd\xe0\0\0\0\0",
        b"\xfe\xff\0\xe0\xff\xff\xff\xff",
        b"SQ\0\0\xff\xff\xff\xff",
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
    )
    contents = [rich_file(), rich_file(ImplicitVRLittleEndian)]
    contents += [path.read_bytes() for path in PYDICOM_FILES if 300 < path.stat().st_size < 40_000]
    plain = 0
    for _ in range(300):
        content = source.choice(contents)
        reader = PlainReader()
        for _ in range(4):
            changed = bytearray(content)
            end = min(len(changed), source.choice((400, 2000, 20_000)))
            for _ in range(source.choice((0, 1, 1, 2, 5))):
                at = source.randrange(128, min(end, len(changed)))
                match source.randrange(4):
                    case 0:
                        changed[at] = source.choice((0, 255, 1, 0xE0, 32, 92, source.randrange(256)))
                    case 1:
                        del changed[at : at + source.choice((1, 2, 8, 12))]
                    case 2:
                        changed[at:at] = changed[source.randrange(128, end) :][: source.randrange(1, 100)]
                    case 3:
                        changed[at:at] = source.choice(marks)
            cut = source.choice(
                (len(changed), len(changed), source.randrange(min(140, len(changed)), len(changed) + 1))
            )
            plain += compare(bytes(changed[:cut]), reader, source.choice((1 << 16, 500)))
    assert plain > 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.dictionaries(
        st.sampled_from(sorted(_WANTED)), st.binary(max_size=24) | st.text("01.+-e \\", max_size=20).map(str.encode)
    )
)
def test_values_of_any_form_are_read_alike_or_by_pydicom(values: dict[int, bytes]) -> None:
    """A value is taken only where its form leaves no doubt."""
    base = trees.dicom_bytes(IMAGE)
    at = 144 + int.from_bytes(base[140:144], "little")
    body = b"".join(
        key.to_bytes(4, "little") + _WANTED[key].vr + len(value).to_bytes(2, "little") + value
        for key, value in sorted(values.items(), key=lambda pair: (pair[0] & 0xFFFF, pair[0] >> 16))
    )
    compare(base[:at] + body + b"\xe0\x7f\x10\0OW\0\0\4\0\0\0abcd", PlainReader())


def test_what_is_known_of_other_files_changes_nothing() -> None:
    """A file in which a known stretch goes on otherwise is walked over anew."""
    reader = PlainReader()
    contents = [trees.dicom_bytes(IMAGE, number=k, z=k * 1.5) for k in range(5)] + [rich_file()] * 2
    for content in contents:
        assert compare(content, reader)
    assert any(reader._known[False].values())


def test_tables_of_tags_agree_with_the_dictionary() -> None:
    """Keywords and VRs are those of pydicom's dictionary, and the sequences are sequences."""
    from pydicom.datadict import dictionary_VR, keyword_dict

    for key, wanted in _WANTED.items():
        assert keyword_dict[wanted.keyword] == (key & 0xFFFF) << 16 | key >> 16
        assert dictionary_VR(wanted.keyword) == wanted.vr.decode()
    for key in _SEQUENCES:
        assert dictionary_VR((key & 0xFFFF) << 16 | key >> 16) == "SQ"
    for charset in elements._PLAIN_CHARSETS:
        pydicom.charset.convert_encodings(charset.decode().strip())


@pytest.mark.parametrize("ahead", [1 << 16, 300, 200, 150])
def test_meta_information_known_of_other_files_changes_nothing(ahead: int) -> None:
    """UIDs of other lengths, other syntaxes, and files that end within what is known."""
    reader = PlainReader()
    files = [
        trees.dicom_bytes(IMAGE, number=number, syntax=syntax)
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
        for number in (1, 2, 30, 4000, 3)
    ]
    assert all(compare(content, reader) for content in files)
    assert all(compare(content, reader) for content in files[::-1])
    for content in files:
        for end in (140, 150, 190, 230, 300, 340, 360):
            assert not compare(content[:end], reader, ahead) or end > 300
            broken = bytearray(content)
            broken[end] ^= 0x55
            compare(bytes(broken), reader, ahead)
