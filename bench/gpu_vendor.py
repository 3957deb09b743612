"""What nvCOMP alone does, on the raw bytes of a volume and on a delta of them: the measure for our own coders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Coder:
    """One of nvCOMP's algorithms and the options it is opened with."""

    algorithm: str
    options: dict[str, Any] = field(default_factory=dict)


CODERS = (Coder("LZ4"), Coder("Zstd"), Coder("Bitcomp", {"data_type": "<i2"}), Coder("ANS"))


def measure_vendor(name: str, *, quick: bool, left: Callable[[], float]) -> dict[str, Any]:
    """Measure each coder both ways, device-resident, in batches of 64 KiB chunks; what comes back is compared."""
    if name != "cuda":
        return {"skipped": "nvCOMP needs a CUDA device"}
    import cupy
    import numpy as np
    from nvidia import nvcomp

    from gpu_measure import generated_volume, row, timed

    samples = generated_volume(quick)
    delta = np.diff(samples.reshape(-1), prepend=samples.dtype.type(0)).astype(np.int16)
    wait = cupy.cuda.runtime.deviceSynchronize
    rows = []
    problems = {}
    for content, array in (("raw", samples.reshape(-1)), ("delta", delta)):
        held = cupy.asarray(array.view(np.uint8))
        cuts = list(range(0, held.size, CHUNK_BYTES))
        sizes = [min(CHUNK_BYTES, held.size - cut) for cut in cuts]
        for coder in CODERS:
            what = f"nvCOMP {coder.algorithm} {content}"
            if left() < 10:
                problems[what] = "no time left"
                continue
            try:
                # Native: nvCOMP's own container, the one way that all four have; only Zstd's RAW goes into archives.
                kind = (
                    nvcomp.BitstreamKind.RAW
                    if coder.algorithm in ("LZ4", "Zstd")
                    else nvcomp.BitstreamKind.NVCOMP_NATIVE
                )
                codec = nvcomp.Codec(algorithm=coder.algorithm, bitstream_kind=kind, **coder.options)
                batch = nvcomp.as_arrays(held, cuts, sizes)
                coded = codec.encode(batch)
                ratio = held.size / sum(coded.buffer_sizes)
                decoded = codec.decode(coded)
                back = b"".join(cupy.asarray(part).tobytes() for part in decoded)
                if back != array.tobytes():
                    raise AssertionError("does not give its input back")
                for way, work in (
                    ("encode", lambda c=codec, b=batch: c.encode(b)),
                    ("decode", lambda c=codec, b=coded: c.decode(b)),
                ):
                    seconds = timed(work, wait, n=5, left=left)
                    rows.append(row(f"{what} {way}", held.size, seconds, ratio=ratio))
            except Exception as error:  # an algorithm may refuse a type; the others still count
                problems[what] = f"{type(error).__name__}: {error}"
    return {"rows": rows, "problems": problems}
