"""Let ``python -m gpushrink`` be the command."""

from gpushrink.cli.main import run

if __name__ == "__main__":
    run()
