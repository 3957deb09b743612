"""Decode the frames of a whole DICOM file where they do not lie in it as plain samples: by pydicom's decoders."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpushrink.errors import InputError, MissingCodecError

__all__ = ["decode_frames"]


def decode_frames(content: bytes, indices: Sequence[int], *, name: str) -> Iterator[NDArray[Any]]:
    """Yield frames [row, column] or [row, column, component], as the decoder gives them: no colour transform.

    Parameters
    ----------
    content
        The whole file.
    indices
        Which frames.
    name
        The file's name, for messages.

    Raises
    ------
    MissingCodecError
        If no decoder for the transfer syntax is installed.
    InputError
        If the pixel data cannot be decoded.
    """
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(io.BytesIO(content), force=True)
            decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except Exception as error:
        raise InputError(f"the pixel data of {name!r} cannot be read ({type(error).__name__}: {error})") from None
    if not decoder.is_available:
        raise MissingCodecError(
            f"{name!r} is compressed ({decoder.UID.name}) and no decoder for it is installed: "
            f"pip install 'gpushrink[convert]', or one of {', '.join(decoder.missing_dependencies)}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for frame, _ in decoder.iter_array(dataset, indices=indices, raw=True):
                yield np.asarray(frame)
    except Exception as error:  # decoders raise anything
        raise InputError(f"the pixel data of {name!r} cannot be decoded ({type(error).__name__}: {error})") from None
