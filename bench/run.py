"""Measure gpushrink beside its peers: `python bench/run.py ratio | speed | archive | sizes`. See bench/README.md."""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path

from corpus import StudySet, find_data, load_corpus
from gpushrink.codec.slab import LEVELS
from sizes import SIZES, check_sizes, measure_sizes, write_sizes

_HERE = Path(__file__).parent


def main() -> int:
    """Run one measurement and return the exit status: 1 where sizes differ, 2 where there is nothing to measure."""
    options = _parse()
    warnings.filterwarnings("ignore", module="pydicom")
    data = find_data(options.data)
    sets = load_corpus(data, options.only) if data else []
    if options.command == "archive":
        return _archives(options, data)
    if options.command == "sizes":
        return _sizes(options, [one for one in sets if one.quick or not options.quick])
    if not sets:
        print("no set of the corpus is there: name the data folder with --data or GPUSHRINK_DATA", file=sys.stderr)
        return 2
    # Here: sizes must run without the packages that only the peers need.
    from ratio import measure_ratio
    from results import describe_machine, plot_speed, results_stem, save_section
    from speed import measure_speed

    machine = describe_machine(options.threads)
    print(f"{machine['cpu']}, {machine['processors']} processors, load {machine['load_before']}, {machine['commit']}")
    levels = options.level or list(LEVELS)
    if options.command == "ratio":
        keep = partial(save_section, options.out, "ratio", machine)
        path = keep(measure_ratio(sets, levels, options.threads, keep))
    else:
        section, points = measure_speed([one for one in sets if one.speed], levels, options.threads, options.runs)
        path = save_section(options.out, "speed", machine, section)
        plot = path.with_suffix(".png")
        title = f"{machine['cpu']}, {options.threads} threads, {results_stem(machine)[-18:]}"
        if plot_speed(plot, title, points):
            print(f"\nwrote {plot}")
    print(f"wrote {path}")
    return 0


def _archives(options: argparse.Namespace, data: Path | None) -> int:
    folders = sorted(path for path in data.iterdir() if path.is_dir() and options.only in path.name) if data else []
    if not folders:
        print("there is no folder to pack: name the data folder with --data or GPUSHRINK_DATA", file=sys.stderr)
        return 2
    from archive import measure_archives
    from results import describe_machine, save_section

    machine = describe_machine(options.threads)
    section = measure_archives(folders, options.level or ["fast", "default"], options.threads, options.runs)
    print(f"wrote {save_section(options.out, 'archive', machine, section)}")
    return 0


def _sizes(options: argparse.Namespace, sets: list[StudySet]) -> int:
    sizes = measure_sizes(sets, options.threads)
    if not sets:
        print("the data folder is not there: the generated volume alone")
    if not options.check:
        write_sizes(sizes)
        print(f"wrote {len(sizes)} sizes to {SIZES}")
        return 0
    differences = check_sizes(sizes, tolerance=options.tolerance)
    print("\n".join(differences) or f"{len(sizes)} sizes as in {SIZES.name}")
    return 1 if differences else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--data", help="folder of the sets (default: $GPUSHRINK_DATA)")
    shared.add_argument("--only", default="", metavar="TEXT", help="only sets with this text in their names")
    shared.add_argument("--threads", type=int, default=2, help="for gpushrink and peers alike (default: 2)")
    measured = argparse.ArgumentParser(add_help=False, parents=[shared])
    measured.add_argument("--level", action="append", choices=LEVELS, help="may be given again; all by default")
    measured.add_argument("--out", type=Path, default=_HERE / "results", help="where the results go")
    commands.add_parser("ratio", parents=[measured], help="bits per sample and whole-study ratios")
    speed = commands.add_parser("speed", parents=[measured], help="MB/s both ways, and the plot")
    speed.add_argument("--runs", type=int, default=3, help="turns to take the median of (default: 3)")
    archive = commands.add_parser("archive", parents=[measured], help="size and speed of every folder beside tar | xz")
    archive.add_argument("--runs", type=int, default=3, help="turns to take the median of (default: 3)")
    sizes = commands.add_parser("sizes", parents=[shared], help="exact sizes, to be committed")
    sizes.add_argument("--check", action="store_true", help="compare with sizes.csv instead of writing it")
    sizes.add_argument("--quick", action="store_true", help="only the sets marked quick in corpus.toml")
    sizes.add_argument("--tolerance", type=float, default=0.0, help="relative difference to let pass (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
