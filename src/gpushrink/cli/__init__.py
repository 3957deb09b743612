"""The command line of gpushrink."""
