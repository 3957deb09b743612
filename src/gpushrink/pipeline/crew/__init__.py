"""Processes that help this one with long work: one interpreter's lock lets a few processors work, not all of them."""

from gpushrink.pipeline.crew.crew import Crew, HelperLostError, Seat

__all__ = ["Crew", "HelperLostError", "Seat"]
