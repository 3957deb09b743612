"""The command line: parse, call one function of the API, print, map an error to its exit code."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from types import FrameType

import typer

from gpushrink.cli import archive, crop, demo, doctor, transcode
from gpushrink.errors import GpushrinkError

__all__ = ["app", "run"]

_log = logging.getLogger("gpushrink")
_COLLECTED_AFTER = (50_000, 20, 20)

app = typer.Typer(
    name="gpushrink",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nExample:\n  gpushrink pack STUDY -o study.gsz      then      gpushrink unpack study.gsz DEST",
)


@app.callback(invoke_without_command=True)
def _main(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    debug: bool = typer.Option(False, "--debug", help="Show a traceback with an error. May stand anywhere."),
) -> None:
    """Make DICOM studies small without losing a bit.

    Pack any folder into one archive, send it, and get every byte back, proven by hash.
    """
    if version:
        from importlib.metadata import version as installed

        print(f"gpushrink {installed('gpushrink')}")
        raise typer.Exit


archive.register(app)
transcode.register(app)
crop.register(app)
demo.register(app)
doctor.register(app)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code of what happened."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for k, word in enumerate(words) if k >= end or word != "--debug"]
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _interrupt)
    # Next to nothing of what is imported is garbage: looking for it takes a fifth of a short run.
    gc.set_threshold(*_COLLECTED_AFTER)
    _log.addHandler(_PROSE)
    _log.setLevel(logging.INFO)
    try:
        app(words, standalone_mode=True)
    except GpushrinkError as error:
        if debug:
            raise
        print(f"gpushrink: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away (`gpushrink list ... | head`): nothing more to say to it.
        sys.stderr.close()
        sys.exit(141)
    except (_InterruptedError, KeyboardInterrupt):
        print("gpushrink: interrupted; nothing half-written is left", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        print(f"gpushrink: internal error: {type(error).__name__}: {error} (run with --debug)", file=sys.stderr)
        sys.exit(1)
    finally:
        gc.freeze()


class _Prose(logging.Handler):
    """Print what the library has to tell, where errors go."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"gpushrink: {record.getMessage()}", file=sys.stderr)


_PROSE = _Prose()


class _InterruptedError(BaseException):
    """Unwind everything, so that temporary files go; typer would answer KeyboardInterrupt itself, and say less."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _InterruptedError
