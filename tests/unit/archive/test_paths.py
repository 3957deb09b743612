"""Stored paths are judged before anything is written."""

from __future__ import annotations

import pytest

from gpushrink.archive.paths import check_link, check_path, check_tree
from gpushrink.errors import CorruptError, UnsafePathError
from gpushrink.model import Entry, EntryKind


def file(path: bytes) -> Entry:
    """Make a file entry."""
    return Entry(EntryKind.FILE, path, 0o644, 0)


def folder(path: bytes) -> Entry:
    """Make a folder entry."""
    return Entry(EntryKind.FOLDER, path, 0o755, 0)


def link(path: bytes, target: bytes) -> Entry:
    """Make a link entry."""
    return Entry(EntryKind.LINK, path, 0o777, 0, 0, target)


def refused(*entries: Entry, one_case: bool = False, windows: bool = False) -> set[int]:
    """Return the positions of what is refused."""
    return set(check_tree(dict(enumerate(entries)), one_case=one_case, windows=windows))


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/etc/passwd", b"..", b"../x", b"a/../b", b"a/..", b"./a", b"a//b", b"a/", b"a\0b", b"a" * 4097],
)
def test_check_path_of_anything_but_a_plain_relative_path_refuses(path: bytes) -> None:
    """Absolute, climbing, empty and malformed paths are refused everywhere."""
    with pytest.raises(UnsafePathError):
        check_path(path, windows=False)
    with pytest.raises(UnsafePathError):
        check_path(path, windows=True)


@pytest.mark.parametrize("path", [b"a", b"a/b", b"...", b"..a", b"a..", b"-", b"\xff\xfe", b"con", b"c:x", b"a\\b"])
def test_check_path_of_ordinary_names_accepts_on_posix(path: bytes) -> None:
    """Names that are only odd are restored where they mean nothing else."""
    check_path(path, windows=False)


@pytest.mark.parametrize(
    "path",
    [
        *(b"con", b"NUL.txt", b"x/Aux", b"com1", b"LPT9.log", "com²".encode(), b"nul .txt", b"conin$"),
        *(b"c:", b"c:x", b"a\\b", b"..\\x", b"\\\\host\\share", b"a:stream", b"what?"),
        *(b"tail.", b"tail ", b"a|b", b"tab\t", b"\xff"),
    ],
)
def test_check_path_of_device_names_and_streams_refuses_on_windows(path: bytes) -> None:
    """What Windows takes for a device, a drive, a stream or a separator is refused there."""
    with pytest.raises(UnsafePathError):
        check_path(path, windows=True)


@pytest.mark.parametrize("path", [b"console", b"com10", b"null", b"a.con", "Zürich".encode(), b"IM0001.dcm"])
def test_check_path_of_names_like_devices_accepts_on_windows(path: bytes) -> None:
    """Only the device names themselves are refused."""
    check_path(path, windows=True)


@pytest.mark.parametrize("target", [b"", b"/etc", b"..", b"../..", b"x/../../y", b"x/../..", b"a\0b"])
def test_check_link_that_leaves_the_root_refuses(target: bytes) -> None:
    """From the root no link may climb, not even to come back."""
    with pytest.raises(UnsafePathError):
        check_link(b"link", target, windows=False)


@pytest.mark.parametrize("target", [b"c:\\x", b"\\x", b"..\\..\\x", b"c:x"])
def test_check_link_with_backslashes_refuses_on_windows(target: bytes) -> None:
    """Windows separators and drives count there."""
    with pytest.raises(UnsafePathError):
        check_link(b"a/link", target, windows=True)


@pytest.mark.parametrize("target", [b"b", b"../b", b".", b"..", b"../a/./b"])
def test_check_link_inside_the_root_accepts(target: bytes) -> None:
    """Links that stay below the destination are kept."""
    check_link(b"a/link", target, windows=False)


def test_check_tree_with_a_path_twice_refuses_the_second() -> None:
    """No path may come twice, as whatever kinds."""
    found = check_tree({0: file(b"a"), 1: link(b"a", b"b"), 2: folder(b"a")}, windows=False)
    assert set(found) == {1, 2}
    assert all(isinstance(error, CorruptError) for error in found.values())


def test_check_tree_with_files_below_a_link_refuses_them() -> None:
    """Nothing is ever written through a stored link, even where a folder of its name is stored too."""
    assert refused(link(b"a", b"."), file(b"a/b")) == {1}
    assert refused(link(b"a", b"."), folder(b"a"), file(b"a/b"), link(b"a/c", b"b")) == {1, 2, 3}


def test_check_tree_with_missing_parents_refuses() -> None:
    """Every parent must be a stored folder, and not a refused one."""
    assert refused(file(b"a/b")) == {0}
    assert refused(file(b"a"), file(b"a/b")) == {1}
    assert refused(folder(b"con"), folder(b"con/x"), file(b"con/x/y"), windows=True) == {0, 1, 2}


def test_check_tree_whatever_the_order_of_ids_accepts_a_good_tree() -> None:
    """The order of ids does not matter to safety."""
    assert refused(file(b"a/b/c"), folder(b"a/b"), folder(b"a")) == set()


@pytest.mark.parametrize(
    ("links", "bad"),
    [
        ([(b"here", b"."), (b"out", b"here/..")], {1}),
        ([(b"here", b"."), (b"out", b"here/../x")], {1}),
        ([(b"a/up", b".."), (b"b", b"a/up/..")], {1}),
        ([(b"a/up", b".."), (b"b", b"a/up/x")], set()),
        ([(b"x", b"y"), (b"y", b"x")], set()),
        ([(b"x", b"a/d"), (b"a/d", b".."), (b"z", b"x/../q")], {2}),
        ([(b"x", b"a"), (b"z", b"x/../q")], set()),
    ],
)
def test_check_tree_with_links_through_links_refuses_those_that_climb(
    links: list[tuple[bytes, bytes]], bad: set[int]
) -> None:
    """A chain of links each of which looks harmless may not lead out either."""
    entries = [link(path, target) for path, target in links]
    assert refused(*entries, folder(b"a")) == bad


def test_check_tree_with_a_bomb_of_links_ends() -> None:
    """Links that double at each step are followed only so far."""
    entries = [link(b"l%03d" % k, b"l%03d/l%03d" % (k + 1, k + 1)) for k in range(500)]
    assert refused(*entries) == set()


def test_check_tree_with_links_that_lead_too_far_together_refuses_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes of archive hold thousands of links, each through all others: what judging them takes has a bound."""
    monkeypatch.setattr("gpushrink.archive.paths._STEPS", 100)
    monkeypatch.setattr("gpushrink.archive.paths._STEPS_A_LINK", 0)
    chain = [(b"a%02d" % k, b"./" * 900 + b"a%02d" % (k + 1)) for k in range(9)]
    many = [(b"b%03d" % k, b"a00") for k in range(60)]
    entries = {i: Entry(EntryKind.LINK, path, 0o777, 0, 0, link) for i, (path, link) in enumerate(chain + many)}
    refused = check_tree(entries)
    # 45 parts for the chain, 10 for each of the others.
    assert sorted(refused) == list(range(9 + 5, 69))
    assert all("too far" in str(error) for error in refused.values())


def test_check_tree_where_case_does_not_count_refuses_the_second_name() -> None:
    """Where two stored names are one, the second is refused with all below it instead of replacing the first."""
    entries = (file(b"A"), file(b"a"), folder(b"Dir"), folder(b"dir"), file(b"dir/x"), file("é".encode()))
    other = file("e\u0301".encode())
    assert refused(*entries, other) == set()
    found = refused(*entries, other, one_case=True)
    assert found == {1, 3, 4, 5} or found == {1, 3, 4, 6}
