"""From a model on the disk to a pipeline in memory: which device, which number format, what may leave the GPU."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import BadRequest, Cancelled, ChaiError
from ..models import Model
from ..models.fingerprint import Stamp
from ..models.mag_ratios import ratios_of
from ..process import loading_turn
from ..settings import Settings
from .libraries import import_libraries, loading_leanly

if TYPE_CHECKING:
    import torch

    from ..opensora import OpenSoraPipeline, OpenSoraTransformer3DModel

OnReading = Callable[[str, int, int], None]
"""Called with checking or loading, bytes of the weights that are done, and bytes in all; from more than one thread."""


@dataclass(frozen=True)
class Machine:
    """Where a model runs: device ("cpu", "cuda:0", ...), dtype ("fp32", "bf16", "fp16") and offload."""

    device: str
    dtype: str
    offload: str = "none"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format as torch calls it."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.dtype]


@dataclass(frozen=True)
class LoadedModel:
    """A pipeline that is ready to run, what it was made of, and what of that a report should tell."""

    model: Model
    machine: Machine
    fingerprint: str
    pipeline: OpenSoraPipeline
    notes: tuple[str, ...] = ()
    mag_ratios: tuple[float, ...] = ()
    stamp: Stamp = ()

    def is_still(self, model: Model, machine: Machine) -> bool:
        """Whether this is that model on that machine, with the weights as they are on the disk now."""
        return (self.model, self.machine, self.stamp) == (model, machine, model.stamp())


class MemoryHost(Protocol):
    """A program that shares its memory among several models, ours being one of them."""

    def make_room(self, size_bytes: int, machine: Machine) -> None:
        """Called before weights of about `size_bytes` come onto `machine`."""

    def settle(self, loaded: LoadedModel) -> None:
        """Called before every run: the model goes where it runs, if it was moved away in the meantime."""


def choose_machine(device: str | None, dtype: str | None, offload: str | None, is_exact: bool = False) -> Machine:
    """Fill in what the person left open: the GPU if there is one; bf16 on a GPU that has it and on a CPU with matrix
    units (AMX), where it was measured to be quicker; fp32 elsewhere.

    Args:
        is_exact: a CPU rounds no more than it has to.
    Raises: BadRequest for a device that is not here, or offloading without a GPU to take the load from.
    """
    with loading_turn():
        import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise BadRequest(f"There is no {device} on this machine: ask for --device cpu, or leave it out.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BadRequest("There is no mps on this machine: ask for --device cpu, or leave it out.")
    if kind != "cuda" and offload not in (None, "none"):
        raise BadRequest(f"Offloading takes weights off a GPU, so it does nothing on {device}: leave --offload out.")
    if dtype is None:
        has_cuda_bf16 = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        has_cpu_bf16 = kind == "cpu" and not is_exact and _has_matrix_units()
        dtype = "bf16" if has_cuda_bf16 or has_cpu_bf16 else "fp32"
    return Machine(device, dtype, offload or "none")


def _has_matrix_units() -> bool:
    """Whether this CPU multiplies matrices of bf16 as such. AVX512-BF16 alone is no gain: half as fast as fp32."""
    import torch

    has: Mapping[str, object] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(has.get("amx_bf16"))


def load(model: Model, machine: Machine, settings: Settings, on_reading: OnReading | None = None) -> LoadedModel:
    """Read the weights and put them where they run; meanwhile, where they are new here, work out their checksums.

    Raises: MissingWeights, DamagedCheckpoint; ChaiError if memory does not hold them, or a setting asks for what is not
    here.
    """
    if settings.compile != "off":
        _check_compiling(machine, settings.compile)
    remedy = "close what else is using it"
    with loading_turn(), memory_in_plain_words(machine, f"the model {model.name}", remedy):
        quantization = _int8_weights() if settings.text_encoder == "int8" else None
        notes = () if quantization is None else ("The text encoder's weights have 8 bits (CHAI_TEXT_ENCODER).",)
        import_libraries(settings)
        stamp = model.stamp()
        with (
            _beside(lambda given_up: fingerprint_of(model, settings, on_reading, given_up)) as fingerprint,
            loading_leanly(settings),
        ):
            pipeline = _load_pipeline(model, machine, quantization, on_reading)
        if model.stamp() != stamp:
            raise ChaiError(f"The weights of {model.name} were changed while they were read: ask again.")
        if settings.compile != "off":
            compile_blocks(pipeline.transformer, settings.compile)
        return LoadedModel(model, machine, fingerprint(), pipeline, notes, ratios_of(model, settings), stamp)


def fingerprint_of(
    model: Model, settings: Settings, on_reading: OnReading | None = None, given_up: threading.Event | None = None
) -> str:
    """`model.fingerprint`, with its progress told.

    Raises: Cancelled once `given_up` is set.
    """
    done, total = 0, model.unread_bytes(settings)

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        if given_up is not None and given_up.is_set():
            raise Cancelled
        if on_reading is not None and total:
            on_reading("checking", min(done, total), total)

    return model.fingerprint(settings, on_bytes)


@contextmanager
def _beside(work: Callable[[threading.Event], str]) -> Iterator[Callable[[], str]]:
    """Do `work` in another thread meanwhile; what the block gets waits for its result. If the block fails, `work` is
    told to give up."""
    given_up = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, given_up)
        try:
            yield future.result
        except BaseException:
            given_up.set()
            raise


@contextmanager
def memory_in_plain_words(machine: Machine, what: str, remedy: str) -> Iterator[None]:
    """Turn running out of memory for `what` within the block into a `ChaiError` that advises `remedy`."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        more = ""
        if machine.device != "cpu":
            more = {"none": ", or add --offload model", "model": ", or set CHAI_TEXT_ENCODER to int8"}.get(
                machine.offload, ""
            )
        sentence = f"The memory of {machine.device} does not hold {what}: {remedy}{more}."
        raise ChaiError(sentence) from error


def _load_pipeline(
    model: Model, machine: Machine, text_quantization: Any, on_reading: OnReading | None = None
) -> OpenSoraPipeline:
    import torch

    from ..opensora import OpenSoraPipeline

    done, total = 0, model.size_bytes

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        if on_reading is not None:
            on_reading("loading", min(done, total), total)

    on_bytes(0)
    how: dict[str, Any] = {"torch_dtype": machine.torch_dtype, "text_quantization": text_quantization}
    how["on_bytes"] = on_bytes
    if model.folder is not None:
        pipeline = OpenSoraPipeline.from_pretrained(model.folder, **how)
    else:
        folders: dict[str, Any] = {part: str(folder) for part, folder in model.parts.items()}
        pipeline = OpenSoraPipeline.from_released(**folders, **how)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.runs_on = torch.device(machine.device)
    if machine.offload == "model":
        pipeline.enable_model_cpu_offload(device=machine.device)
    elif machine.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=machine.device)
    else:
        pipeline.to(machine.device)
    return pipeline


def _int8_weights() -> Any:
    try:
        from torchao.quantization import Int8WeightOnlyConfig
    except ImportError as error:
        raise ChaiError(
            "CHAI_TEXT_ENCODER is int8, which needs the package torchao: pip install torchao, or set it to full."
        ) from error
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _check_compiling(machine: Machine, how: str) -> None:
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++", "cl")):
        raise ChaiError(
            f"CHAI_COMPILE is {how}, but torch.compile finds no C++ compiler here: install g++, or set CHAI_COMPILE to "
            "off."
        )
    if how == "graphs" and (not machine.device.startswith("cuda") or machine.offload != "none"):
        where = machine.device if machine.offload == "none" else f"{machine.device} with --offload {machine.offload}"
        raise ChaiError(
            f"CHAI_COMPILE is graphs, which needs a CUDA device that keeps the weights, and the model runs on {where}: "
            "set CHAI_COMPILE to on or off."
        )


def compile_blocks(transformer: OpenSoraTransformer3DModel, how: str) -> None:
    """Let torch.compile work on the transformer, block by block, since all blocks are alike, and for any size, so that
    another one is not compiled anew.

    Args:
        how: on; or graphs, which are recorded for each size.
    """
    import torch

    if how == "graphs":
        # A denoising step is over when the next begins: its outputs may be overwritten then.
        transformer.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
        transformer.compile_repeated_blocks(dynamic=True, mode="reduce-overhead")
    else:
        transformer.compile_repeated_blocks(dynamic=True)
