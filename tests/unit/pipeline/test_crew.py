"""Helping processes: what they do is what this process does, and without them it goes on."""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

import numpy as np
import pydicom
import pytest

import trees
from gpushrink.codec.parallel import Team
from gpushrink.codec.table import CPU
from gpushrink.dicom.look import Looked, Place, look_into
from gpushrink.dicom.scan import scan_files
from gpushrink.dicom.walk import walk_sources
from gpushrink.errors import CorruptError, InputError, UsageError
from gpushrink.model import BlockCodec
from gpushrink.pipeline import api
from gpushrink.pipeline.auto_device import AutoSlabCodec
from gpushrink.pipeline.crew import Crew, HelperLostError, Seat, crew, messages
from gpushrink.pipeline.crew.tasks import Setting, Workplace
from gpushrink.pipeline.packing import PackReport, pack_to_sink
from gpushrink.pipeline.sharing import decode_shared, spread_over
from gpushrink.pipeline.unpacking import verify_archive

LONGEST_S = 120.0


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Give two series of several slabs each, a single image, and a file that is no DICOM."""
    folder = tmp_path / "series"
    folder.mkdir()
    random = np.random.default_rng(3)
    y, x = np.ogrid[:256, :256]
    for number in range(2):
        for k in range(150):
            image = (900 + 300 * np.sin(x / 17 + k / 9) + 2 * y + random.normal(0, 9, (256, 256))).astype(np.uint16)
            content = trees.dicom_bytes(image, number=k, z=2.0 * k, series=f"1.2.{number + 3}")
            (folder / f"{number}-{k:03}.dcm").write_bytes(content)
    (folder / "single.dcm").write_bytes(trees.dicom_bytes(image, number=1, z=0.0, series="1.2.9"))
    (folder / "notes.txt").write_text("nothing of note\n" * 900)
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what helpers have done, by task."""
    counts: Counter[str] = Counter()
    call = Seat.call

    def counted(self: Seat, task: str, *arguments: object) -> object:
        found = call(self, task, *arguments)
        counts[task] += 1
        return found

    monkeypatch.setattr(Seat, "call", counted)
    return counts


@pytest.fixture
def pair() -> Iterator[Crew]:
    """Give a crew whose two helpers are ready."""
    with Crew(threads=4, level="fast", processes=2) as found:
        assert found.begin_for(None)
        wait_for(found, 2)
        yield found


def wait_for(some: Crew, count: int) -> None:
    """Wait until so many helpers are at work."""
    deadline = time.monotonic() + LONGEST_S
    while some.count != count:
        assert time.monotonic() < deadline, f"{some.count} helpers, not {count}"
        time.sleep(0.01)


def packed(folder: Path, some: Crew | None) -> tuple[bytes, PackReport]:
    """Pack a folder, alone or with a crew."""
    sink = io.BytesIO()
    report = pack_to_sink([folder], sink, level="fast", threads=4, crew=some)
    return sink.getvalue(), report


def test_a_message_comes_through_with_its_buffers() -> None:
    """Objects arrive equal, buffers as bytes of the same content, empty ones too."""
    stream = io.BytesIO()
    large = np.arange(70_000, dtype=np.uint8)
    message = (7, "a task", {1: b"small"}, messages.Large(memoryview(large)), messages.Large(b""))  # type: ignore[arg-type]
    messages.write_message(stream, message)  # type: ignore[arg-type]  # what it asks of a stream, this one has
    stream.seek(0)
    number, task, small, first, second = messages.read_message(stream)  # type: ignore[arg-type]
    assert (number, task, small) == (7, "a task", {1: b"small"})
    assert bytes(first) == large.tobytes()
    assert bytes(second) == b""


def test_a_message_cut_short_is_an_end() -> None:
    """At every length."""
    stream = io.BytesIO()
    messages.write_message(stream, (1, messages.Large(b"abc")))  # type: ignore[arg-type]
    whole = stream.getvalue()
    for size in range(len(whole)):
        with pytest.raises(EOFError):
            messages.read_message(io.BytesIO(whole[:size]))  # type: ignore[arg-type]


def test_helpers_write_the_same_archive(series: Path, pair: Crew, calls: Counter[str]) -> None:
    """Slabs, patterns and headers are done by helpers, and the archive is the one of a single process."""
    alone, report = packed(series, None)
    assert report.processes == 0
    shared, report = packed(series, pair)
    assert shared == alone
    assert report.processes == 2
    assert report.engine == CPU.name
    assert pair.engines == [CPU.name]
    assert calls["choose"] >= 2
    assert calls["code"] >= 4
    assert calls["code headers"] >= 1


def test_helpers_prove_an_archive(series: Path, pair: Crew, calls: Counter[str]) -> None:
    """Blocks are decoded by helpers, and every file's hash holds."""
    archive, _ = packed(series, None)
    report = verify_archive(io.BytesIO(archive), threads=4, crew=pair)
    assert report.worst() is None
    assert report.files == 302
    assert calls["decode"] >= 4


def test_damage_is_found_with_helpers_as_without(series: Path, pair: Crew) -> None:
    """A block that does not decode is named, as without helpers, and these stay."""
    archive, _ = packed(series, None)
    with pytest.raises(CorruptError):
        decode_shared(pair, BlockCodec.VOLUME, memoryview(archive)[5000:6000], 1 << 20, slab_codec=CPU, team=Team(1))
    gc.collect()  # an error and what it holds are garbage now
    assert pair.count == 2


def test_a_helper_that_dies_leaves_its_work_to_others(
    series: Path, pair: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with work in hand: the archive is the same."""
    alone, _ = packed(series, None)
    call, killed = Seat.call, []

    def kill_first(self: Seat, task: str, *arguments: object) -> object:
        if not killed:
            assert self._helper is not None
            killed.append(self._helper._process.pid)
            os.kill(killed[0], signal.SIGKILL)
        return call(self, task, *arguments)

    monkeypatch.setattr(Seat, "call", kill_first)
    shared, report = packed(series, pair)
    assert killed
    assert shared == alone
    assert report.processes == 1


def test_a_helper_that_keeps_failing_is_given_up(pair: Crew) -> None:
    """One failure is taken for the task's fault, three for the helper's."""
    for _ in range(6):
        with pair.take() as seat:
            assert not seat.is_here
            with pytest.raises(HelperLostError):
                seat.call("code", None, {}, None)
    wait_for(pair, 0)
    with pair.take() as seat:
        assert seat.is_here


def test_where_no_process_can_be_begun_the_work_is_done_here(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that is no Python interpreter."""
    alone, _ = packed(series, None)
    for interpreter in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", interpreter)
        with Crew(threads=4, level="fast", processes=2) as some:
            shared, report = packed(series, some)
        assert shared == alone
        assert report.processes == 0


def test_a_source_that_vanishes_is_named_with_helpers_as_without(series: Path, pair: Crew) -> None:
    """The helper's failure becomes this process's own error."""

    class Removing(io.BytesIO):
        """Remove a file once the scan is over."""

        def write(self, data: object) -> int:
            (series / "1-149.dcm").unlink(missing_ok=True)
            return super().write(data)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="1-149"):
        pack_to_sink([series], Removing(), level="fast", threads=4, crew=pair)


def in_time(work: Callable[[], object]) -> object:
    """Return what `work` gives, or raises; fail where it hangs."""
    done: list[object] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:
            done.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONGEST_S)
    assert done, "it hangs"
    if isinstance(done[0], Exception):
        raise done[0]
    return done[0]


@pytest.mark.parametrize("dtype", ["uint32", "uint16"])
def test_volumes_of_any_type_are_shared(
    dtype: str, pair: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Counter[str]
) -> None:
    """Where no reference pattern is chosen nobody waits for one."""
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 1 << 18)
    y, x = np.ogrid[:256, :256]
    frames = np.stack([1000 + 200 * np.sin(x / 9 + k) + y for k in range(24)]).astype(dtype)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "one.dcm").write_bytes(trees.dicom_bytes(frames, frames=24))
    alone, _ = packed(tmp_path / "source", None)
    shared, _ = in_time(lambda: packed(tmp_path / "source", pair))  # type: ignore[misc]
    assert shared == alone
    assert calls["code"] >= 1


def test_a_first_slab_that_fails_leaves_nobody_waiting(
    pair: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of it changes after the scan: the error names it, and the helpers are free again."""
    monkeypatch.setattr("gpushrink.codec.slab.SLAB_BYTES", 1 << 20)
    source = tmp_path / "source"
    source.mkdir()
    random = np.random.default_rng(1)
    y, x = np.ogrid[:256, :256]
    for k in range(40):
        # In turn, so that there are patterns to choose from, and others ask what was chosen.
        image = 2000 + 1000 * np.sin(x / 9) * np.cos(y / 13) if k % 2 else 900 + 500 * np.cos(x / 5 + y / 7)
        noisy = (image + random.normal(0, 3, (256, 256))).astype(np.uint16)
        (source / f"{k:02}.dcm").write_bytes(trees.dicom_bytes(noisy, number=k, z=2.0 * k))

    def scan(*arguments: object, **options: object) -> object:
        found = scan_files(*arguments, **options)  # type: ignore[arg-type]
        os.utime(source / "00.dcm", (1, 1))
        return found

    with monkeypatch.context() as changing:
        changing.setattr("gpushrink.pipeline.packing.scan_files", scan)
        with pytest.raises(InputError, match="00.dcm"):
            in_time(lambda: packed(source, pair))
    assert in_time(lambda: packed(source, pair))[0] == packed(source, None)[0]  # type: ignore[index]


def test_all_helpers_end_with_the_crew(pair: Crew) -> None:
    """No process is left."""
    processes = [helper._process for helper in pair._helpers]
    pair.close()
    assert all(process.poll() is not None for process in processes)
    assert pair.count == 0


def test_helpers_end_when_the_process_that_began_them_is_killed(tmp_path: Path) -> None:
    """Their input ends, and so do they."""
    program = textwrap.dedent(
        """
        import sys, time
        from gpushrink.pipeline.crew import Crew
        crew = Crew(threads=2, processes=1)
        crew.begin_for(None)
        while not crew.count:
            time.sleep(0.01)
        print(crew._helpers[0]._process.pid, flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + LONGEST_S
    while _is_running(helper):
        assert time.monotonic() < deadline, "the helper is still there"
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_script_that_packs_at_its_top_level_packs_once(series: Path, tmp_path: Path) -> None:
    """Helpers do not run the caller's main module."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import gpushrink\nprint('here')\n"
        f"gpushrink.pack({str(series)!r}, {str(tmp_path / 'a.gsz')!r}, level='fast', processes=2, device='cpu')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=LONGEST_S)
    assert done.stdout == "here\n"
    assert api.verify(tmp_path / "a.gsz").worst() is None


def test_few_threads_or_little_work_get_no_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default they are for large work on many processors."""
    begun: list[int] = []
    monkeypatch.setattr(Crew, "_begin", lambda self, count: begun.append(count))
    Crew(threads=16).begin_for(1 << 30)
    Crew(threads=16).begin_for(None)
    Crew(threads=4).begin_for(1 << 40)
    Crew(threads=16, processes=0).begin_for(1 << 40)
    with monkeypatch.context() as frozen:
        frozen.setattr(sys, "frozen", True, raising=False)
        Crew(threads=16, processes=2).begin_for(1 << 40)
    assert begun == []
    Crew(threads=16).begin_for(1 << 40)
    Crew(threads=1, processes=3).begin_for(None)
    assert begun == [4, 3]


def test_fewer_processes_than_none_are_refused(tmp_path: Path) -> None:
    """A usage error."""
    with pytest.raises(UsageError, match="processes"):
        api.verify(tmp_path, processes=-1)


def test_places_are_moved_to_helpers_not_added(pair: Crew) -> None:
    """With four threads and two helpers of two, a fifth task waits until one of these has a place."""
    seats = [pair.take() for _ in range(4)]
    assert not any(seat.is_here for seat in seats)
    with ThreadPoolExecutor(1) as pool:
        fifth = pool.submit(pair.take)
        with pytest.raises(FutureTimeout):
            fifth.result(0.1)
        for seat in seats:
            with seat:
                pass
        with fifth.result(10) as seat:
            assert not seat.is_here


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what helpers are asked for; files are looked into two at a time."""
    found: Counter[str] = Counter()
    call = crew._Helper.call

    def counted(self: crew._Helper, task: str, arguments: tuple[object, ...]) -> object:
        found[task] += 1
        return call(self, task, arguments)

    monkeypatch.setattr(crew._Helper, "call", counted)
    monkeypatch.setattr("gpushrink.dicom.scan._AT_ONCE", 2)
    return found


def test_helpers_look_into_files_too(series: Path, pair: Crew, asked: Counter[str]) -> None:
    """The scan is the one of this process alone, copies of files and of frames among it."""
    for k, path in enumerate(sorted(series.rglob("*.dcm"))[:5]):
        (series / f"copy {k}").write_bytes(path.read_bytes())
    walk = walk_sources([series])

    def slowly(places: Sequence[Place], keep: int) -> list[Looked]:
        time.sleep(0.05)
        return look_into(places, keep)

    def spread(look: object, places: Sequence[Sequence[Place]], keeps: Sequence[int]) -> list[list[Looked]]:
        return pair.spread("look", slowly, zip(places, keeps, strict=True))

    assert scan_files(walk.found, spread=spread) == scan_files(walk.found)
    assert scan_files(walk.found, spread=spread_over(pair)) == scan_files(walk.found)
    assert asked["look"] > 2


def test_a_file_that_changed_is_named_wherever_it_is_looked_into(series: Path, pair: Crew, asked: Counter[str]) -> None:
    """A helper's failure is done again here, and tells what it is."""
    walk = walk_sources([series])
    changed = min(series.rglob("*.dcm"))
    changed.write_bytes(b"another")
    for _ in range(4):  # at a helper or here
        with pytest.raises(InputError, match=re.escape(changed.name)):
            scan_files(walk.found, spread=spread_over(pair))


def test_a_helper_lost_while_it_looks_leaves_nothing_undone(series: Path, pair: Crew, asked: Counter[str]) -> None:
    """Killed before the scan asks: what it was given is done here."""
    walk = walk_sources([series])
    killed = pair._helpers[0]._process
    killed.kill()
    found = in_time(lambda: scan_files(walk.found, spread=spread_over(pair)))
    assert found == scan_files(walk.found)


def test_settings_of_pydicom_decide_alike_wherever_files_are_looked_into(
    tmp_path: Path, pair: Crew, asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are this process's: what needs pydicom is looked into here."""
    for k in range(200):
        content = trees.dicom_bytes(np.full((9, 9), k, np.uint16), number=k, z=float(k))
        (tmp_path / f"{k:03}.dcm").write_bytes(
            content.replace(b"IS\x02\x00%d" % k, b"IS\x02\x00x ") if k > 9 else content
        )
    walk = walk_sources([tmp_path])
    usual = scan_files(walk.found)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    strict = scan_files(walk.found)
    assert strict.opaque != usual.opaque
    assert scan_files(walk.found, spread=spread_over(pair)) == strict
    assert asked["look"] > 2


def test_an_error_met_for_a_helper_ends_the_scan(series: Path, pair: Crew, asked: Counter[str]) -> None:
    """It is not told after all else has been looked into."""
    found = [item for item in walk_sources([series]).found if item.path.endswith(b".dcm")]
    good = Place(found[0].path, found[0].identity, False)
    items = [([good], 0), ([good._replace(path=b"/nowhere")], 0), *[([good], 0)] * 20_000]
    done = []

    def here(places: Sequence[Place], keep: int) -> list[Looked]:
        done.append(places)
        if len(done) == 1:
            time.sleep(0.3)  # so that a helper gets the bad one
        return look_into(places, keep)

    with pytest.raises(InputError, match="nowhere"):
        pair.spread("look", here, items)
    assert asked["look"] + len(done) < len(items)


def test_an_interrupted_scan_waits_for_no_helper(series: Path, pair: Crew) -> None:
    """Not even for one that never answers."""
    for helper in pair._helpers:
        os.kill(helper._process.pid, signal.SIGSTOP)
    done = []

    def here(places: Sequence[Place], keep: int) -> list[Looked]:
        done.append(places)
        time.sleep(0.2)
        raise KeyboardInterrupt

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            pair.spread("look", here, [([], 0)] * 9)

    in_time(interrupted)
    assert len(done) == 1  # what helpers had in hand is not done again


def test_what_waits_for_a_card_gets_more_seats(pair: Crew) -> None:
    """Only where there is one at work: packages alone are none."""
    assert [helper.seats for helper in pair._helpers] == [2, 2]
    with Workplace(Setting(2, "fast", "cpu", None, 1)) as place:
        assert place.seats == 2
        place.slab_codec = without = AutoSlabCodec(lambda: None)
        assert place.seats == 2
        without._cards = CPU
        assert place.seats == 4
        place.slab_codec = type(CPU)()  # any codec that is no `CPU`
        assert place.seats == 4


def test_no_helper_is_waited_for_where_the_scan_is_short(series: Path) -> None:
    """Helpers that have not begun when all is done do not hold it up."""
    with Crew(threads=2, processes=1) as slow:
        slow.begin_for(None)
        helper = slow._helpers[0]
        os.kill(helper._process.pid, signal.SIGSTOP)
        try:
            walk = walk_sources([series])
            assert in_time(lambda: scan_files(walk.found, spread=spread_over(slow))) == scan_files(walk.found)
        finally:
            os.kill(helper._process.pid, signal.SIGCONT)


def test_unpack_with_helpers_gives_the_tree_back(series: Path, tmp_path: Path) -> None:
    """By the public functions, with the proof by helpers too."""
    report = api.pack(series, tmp_path / "a.gsz", level="fast", device="cpu", threads=2, processes=1)
    assert report.verified
    assert api.unpack(tmp_path / "a.gsz", tmp_path / "out", device="cpu", threads=2, processes=1).worst() is None
    assert trees.differences(series, tmp_path / "out") == []
