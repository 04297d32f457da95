"""What all parts share: the time that is left, what was found so far, and how a step of a part may end."""

from __future__ import annotations

import gc
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..header import ROOT
from ..journal import write_json

if TYPE_CHECKING:
    import torch

GOLDEN = ROOT / "tests" / "data" / "golden"
LEAST_S = 3.0  # a step that has less is not begun
PATIENCE = 10  # a CPU takes longer than budgets for a GPU allow, even at small size


class Lack(Exception):
    """What this machine has not, in one line: the step is passed over."""


class OutOfTime(BaseException):
    """The time of a step is over. Not an `Exception`, so that nothing in between takes it for a failure."""


class Kit:
    """One run of a part.

    Args:
        path: the JSON file of what is found; other results lie beside it.
    """

    def __init__(self, device: str, path: Path, minutes: float, is_small: bool, header: dict[str, Any]) -> None:
        self.device, self.out, self._path, self.is_small = device, path.parent, path, is_small
        self.found: dict[str, Any] = {"header": header, "steps": {}}
        self.kept: dict[str, Any] = {}
        """What one step leaves for later ones, by name."""
        self._end = time.monotonic() + 60 * minutes
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def left_s(self) -> float:
        """Seconds until all has to be done."""
        return self._end - time.monotonic()

    def dtype(self) -> torch.dtype:
        """What speed is measured in: bf16 on a GPU."""
        import torch

        return torch.bfloat16 if self.is_cuda else torch.float32

    def clock(self) -> float:
        """Seconds by the clock, once the device has finished what it was given."""
        if self.is_cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any], rounds: int, warm: int = 2) -> list[float]:
        """How long `work` takes, `rounds` times after it was done `warm` times."""
        for _ in range(warm):
            work()
        found = []
        for _ in range(rounds):
            start = self.clock()
            work()
            found.append(self.clock() - start)
        return found

    def peak_gb(self) -> float | None:
        """The most memory of the card since `step` began."""
        import torch

        return torch.cuda.max_memory_allocated() / 1e9 if self.is_cuda else None

    def step(self, name: str, budget_s: float, work: Callable[[Kit], dict[str, Any]]) -> None:
        """Do one step of a part, within its budget and the time that is left, and write down how it ended."""
        start, budget_s = time.monotonic(), min(budget_s * (PATIENCE if self.is_small else 1), self.left_s)
        self._begin_with_free_memory()
        try:
            if budget_s < LEAST_S:
                raise Lack("no time is left")
            with _at_most(budget_s):
                result = {**work(self), "ended": "done"}
        except (Lack, ImportError) as lack:
            result = {"ended": f"passed over: {lack}"}
        except OutOfTime:
            result = {"ended": f"stopped after {budget_s:.0f} s", **self.kept.pop("partial", {})}
        except Exception as error:
            told = traceback.format_exc().splitlines()
            sentence = " ".join(str(error).split())[:300]
            result = {"ended": f"failed: {type(error).__name__}: {sentence}", "traceback": told[-12:]}
        self.kept.pop("partial", None)
        self.found["steps"][name] = {**result, "took_s": round(time.monotonic() - start, 1)}
        print(f"{name:28} {result['ended']} ({time.monotonic() - start:.0f} s)", flush=True)
        write_json(self._path, self.found)

    def so_far(self, **values: Any) -> None:
        """What a step has found, should its time be over before it ends."""
        self.kept["partial"] = {**self.kept.get("partial", {}), **values}

    def _begin_with_free_memory(self) -> None:
        gc.collect()
        if self.is_cuda:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def golden(name: str) -> Path:
    """A file of the recorded cases. Raises: Lack where they are not here."""
    if not (GOLDEN / name).is_file():
        raise Lack(f"tests/data/golden/{name} is not here: pack it, or run from a clone")
    return GOLDEN / name


def needs(module: str, package: str) -> Any:
    """A module that may be missing. Raises: Lack."""
    from importlib import import_module

    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise Lack(f"the package {package} cannot be imported ({str(error).splitlines()[0]})") from error


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after `seconds`, where Python can (its main thread, not Windows)."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def end(_number: int, _frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
