"""How long full runs take on this machine: what a hit is compared with.

A donor's own time will not do. It may have been the first run after a start, which takes many times as long, or another
machine's. So the last full runs of each model and size are remembered here, and the middle one speaks.
"""

from __future__ import annotations

import json
import math
import platform
import re
import statistics
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CannotWrite
from ..files import remembered, whole_file

if TYPE_CHECKING:
    from ..request import Report, ResolvedRequest

_FILE = "run_times.json"
_KEPT = 15
_MOST_KINDS = 500
_FEWEST_COLD = 2


class RunTimes:
    """Seconds from prompt to frames, remembered in the folder `home` by what decides them."""

    def __init__(self, home: Path) -> None:
        self._path = home / _FILE

    def add(self, request: ResolvedRequest, report: Report, is_first: bool) -> None:
        """Remember a full run. is_first: of its process, which is slower by what is done once."""
        known = remembered(self._path)
        key = _key(request, report)
        runs = [*_runs(known.pop(key, None)), [round(report.making_seconds, 3), is_first]]
        known = dict(list(known.items())[-_MOST_KINDS + 1 :]) | {key: runs[-_KEPT:]}
        with suppress(CannotWrite, OSError):  # remembered nowhere: nothing is claimed
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._path) as temporary:
                temporary.write_text(json.dumps(known, indent=1))

    def usual(self, request: ResolvedRequest, report: Report) -> float | None:
        """What a full run of `request` takes where the one of `report` was made; None where too little is known: of
        first runs alone, two are needed. Of an even number, the faster of the middle two."""
        runs = _runs(remembered(self._path).get(_key(request, report)))
        warm = [seconds for seconds, is_first in runs if not is_first]
        if warm or len(runs) >= _FEWEST_COLD:
            return statistics.median_low(warm or [seconds for seconds, _ in runs])
        return None

    def expected(self, request: ResolvedRequest, fingerprint: str, steps: int) -> float | None:
        """About how many seconds a run of `steps` takes, by the full runs of this model that are nearest in size; None
        if there are none. A floor where the size is larger than all of them: attention grows faster than its frames."""
        work = request.width * request.height * request.num_frames * request.num_loops * steps
        nearest: tuple[float, float] | None = None
        for key, values in remembered(self._path).items():
            found = _KEY.match(key)
            runs = [seconds for seconds, _ in _runs(values)]
            if found is None or found["fingerprint"] != fingerprint or found["node"] != platform.node() or not runs:
                continue
            ratio = work / math.prod(int(found[name]) for name in ("width", "height", "frames", "steps"))
            distance = abs(math.log(ratio))
            if nearest is None or distance < nearest[0]:
                nearest = distance, ratio * statistics.median_low(runs)
        return None if nearest is None else nearest[1]


_KEY = re.compile(
    r"(?P<fingerprint>\S+) (?P<width>[1-9]\d{0,5})x(?P<height>[1-9]\d{0,5})x(?P<frames>[1-9]\d{0,5}) "
    r"(?P<steps>[1-9]\d{0,5}) steps, .* on (?P<node>\S*) "
)


def _key(request: ResolvedRequest, report: Report) -> str:
    """By what the time of a full run is decided: weights, size, steps, and the machine."""
    size = f"{request.width}x{request.height}x{request.num_frames}"
    how = f"{request.num_inference_steps} steps, {request.acceleration}, guidance {(request.guidance_scale or 0) > 1}"
    return (
        f"{report.model_fingerprint} {size} {how} on {platform.node()} {report.device} {report.dtype} {report.threads}"
    )


def _runs(values: object) -> list[list[float]]:
    """Those that the file tells of, as far as it makes sense."""
    if not isinstance(values, list):
        return []
    return [run for run in values if isinstance(run, list) and len(run) == 2 and isinstance(run[0], float | int)]
