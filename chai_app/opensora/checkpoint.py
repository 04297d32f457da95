"""Loading weights: diffusers' layout, or the layout in which Open-Sora 1.2 was published.

The published transformer and autoencoder are each a `config.json` that names the original's class as `model_type`, and
one `model.safetensors`. Either layout loads through the same `from_pretrained`, from a folder or from the hub.
"""

import json
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from torch import Tensor

from ..checks.only_data import check_only_data
from ..errors import DamagedCheckpoint, MissingWeights
from .released_layout import autoencoder_config, autoencoder_name, transformer_config, transformer_name
from .weight_files import OnBytes, tensors_in

Model = TypeVar("Model", bound=ModelMixin)

# Where to look for files: what diffusers, transformers and huggingface_hub all understand.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def load_strictly(model: ModelMixin, state_dict: Mapping[str, Tensor], where: str = "The checkpoint") -> None:
    """Take over all tensors of a state dict, under the model's own names.

    A model built without memory (on the meta device) takes the tensors themselves; any other copies them, and keeps
    its dtype.

    Args:
        where: the subject of the sentence if something is wrong.
    Raises: DamagedCheckpoint if a tensor is missing, unknown or of another shape.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
    reshaped = sorted(name for name in own.keys() & state_dict.keys() if own[name].shape != state_dict[name].shape)
    _refuse_misfits(where, missing, unknown, reshaped)
    model.load_state_dict(dict(state_dict), strict=True, assign=any(tensor.is_meta for tensor in own.values()))


def load_transformer(
    model_class: type[Model], load_as_diffusers: Callable[..., Any], source: str | Path, **kwargs: Any
) -> Model:
    """`OpenSoraTransformer3DModel.from_pretrained`."""
    layout = ("STDiT3", transformer_config, transformer_name)
    return _load_model(model_class, layout, load_as_diffusers, source, **kwargs)


def load_autoencoder(
    model_class: type[Model], load_as_diffusers: Callable[..., Any], source: str | Path, **kwargs: Any
) -> Model:
    """`AutoencoderKLOpenSora.from_pretrained`."""
    layout = ("VideoAutoencoderPipeline", autoencoder_config, autoencoder_name)
    return _load_model(model_class, layout, load_as_diffusers, source, **kwargs)


def _load_model(
    model_class: type[Model],
    layout: tuple[str, Callable[..., dict[str, Any]], Callable[[str], str]],
    load_as_diffusers: Callable[..., Any],
    source: str | Path,
    **kwargs: Any,
) -> Model:
    released_type, own_config, own_name = layout
    on_bytes: OnBytes | None = kwargs.pop("on_bytes", None)
    hub_options = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
    where = _where(source, hub_options)
    config = _loading(
        where, lambda path: json.loads(path.read_text("utf-8")), _find("config.json", source, hub_options)
    )
    if config.get("model_type") != released_type:
        kwargs |= {"use_safetensors": True, "output_loading_info": True}
        model, found = _loading(where, load_as_diffusers, source, **kwargs)
        # diffusers starts what is missing at random, with a mere warning.
        reshaped = [entry if isinstance(entry, str) else entry[0] for entry in found["mismatched_keys"]]
        _refuse_misfits(where, sorted(found["missing_keys"]), sorted(found["unexpected_keys"]), sorted(reshaped))
        return model

    path = _find("model.safetensors", source, hub_options)
    dtype = kwargs.get("torch_dtype") or kwargs.get("dtype") or torch.float32
    read = _loading(where, lambda: dict(tensors_in(path, lambda _name: dtype, on_bytes)))
    tensors = {own_name(name): tensor for name, tensor in read.items()}
    with init_empty_weights(include_buffers=True):
        model = model_class(**_loading(where, own_config, config, tensors))
    load_strictly(model, tensors, where)
    model.register_to_config(_name_or_path=str(source))
    return model.eval()


def load_text_encoder(
    source: str | Path,
    torch_dtype: torch.dtype | None = None,
    quantization: Any = None,
    on_bytes: OnBytes | None = None,
    **hub_options: Any,
) -> Any:
    """A T5 encoder from a folder or hub repository, ready for use.

    Args:
        quantization: a quantization config of transformers; None keeps the weights in torch_dtype.
        on_bytes: told as the weights are read; not of those that are quantized.
    Raises: MissingWeights, DamagedCheckpoint.
    """
    from transformers import T5Config, T5EncoderModel

    where = _where(source, hub_options)
    _find("config.json", source, hub_options)
    dtype = torch_dtype or torch.float32
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if quantization is not None:  # transformers quantizes while it reads
        options |= {"quantization_config": quantization, "weights_only": True, **hub_options}
        model, found = _loading(where, T5EncoderModel.from_pretrained, source, **options)
    else:
        in_fp32 = T5EncoderModel._keep_in_fp32_modules if dtype == torch.float16 else ()

        def dtype_of(name: str) -> torch.dtype | None:
            if name.startswith(("decoder.", "lm_head.")):  # a whole T5 brings them too, which is no fault
                return None
            return torch.float32 if any(part in in_fp32 for part in name.split(".")) else dtype

        tensors: dict[str, Tensor] = {}
        for path in _text_weights(source, hub_options):
            tensors |= _loading(where, lambda path=path: dict(tensors_in(path, dtype_of, on_bytes)))
        config = _loading(where, T5Config.from_pretrained, source, **hub_options)
        options |= {"config": config, "state_dict": tensors}
        model, found = _loading(where, T5EncoderModel.from_pretrained, None, **options)
    # transformers starts what is missing at random.
    _refuse_misfits(where, sorted(found["missing_keys"]), [], [])
    return model.eval()


def _text_weights(source: str | Path, hub_options: Mapping[str, Any]) -> list[Path]:
    """The files that hold a text encoder's weights: one, or the shards that a list of them names.

    Raises: MissingWeights, DamagedCheckpoint.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        with suppress(MissingWeights):
            return [_find(name, source, hub_options)]
        with suppress(MissingWeights):
            index = _find(f"{name}.index.json", source, hub_options)
            shards = _loading(_where(source, hub_options), _named_in, index)
            return [_find(shard, source, hub_options) for shard in shards]
    others = sorted(_find("config.json", source, hub_options).parent.glob("*.safetensors"))
    if len(others) == 1:  # a variant alone, as model.fp16.safetensors
        return others
    raise MissingWeights(f"{_where(source, hub_options)} has no model.safetensors: fetch it again, whole.")


def _named_in(index: Path) -> list[str]:
    return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))


def load_tokenizer(source: str | Path, **hub_options: Any) -> Any:
    """A tokenizer from a folder or hub repository.

    Raises: MissingWeights, DamagedCheckpoint.
    """
    from transformers import AutoTokenizer

    _find("tokenizer_config.json", source, hub_options)
    where = _where(source, hub_options)
    return _loading(where, AutoTokenizer.from_pretrained, source, trust_remote_code=False, **hub_options)


def load_scheduler(source: str | Path, **hub_options: Any) -> Any:
    """A flow-matching scheduler from a folder or hub repository.

    Raises: MissingWeights, DamagedCheckpoint.
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    _find("scheduler_config.json", source, hub_options)
    return _loading(_where(source, hub_options), FlowMatchEulerDiscreteScheduler.from_pretrained, source, **hub_options)


def _where(source: str | Path, hub_options: Mapping[str, Any]) -> str:
    subfolder = hub_options.get("subfolder")
    return f"The checkpoint {source}/{subfolder}" if subfolder else f"The checkpoint {source}"


def _find(file: str, source: str | Path, hub_options: Mapping[str, Any]) -> Path:
    """The path of a file in a folder, or in the hub's cache after fetching it if need be."""
    where = _where(source, hub_options)
    if Path(source).is_dir():
        path = Path(source, hub_options.get("subfolder") or "", file)
        if path.is_file():
            check_only_data(path.parent)
            return path
        raise MissingWeights(f"{where} has no {file}: copy the folder again, whole.")
    try:
        path = Path(hf_hub_download(str(source), file, **hub_options))
    except (OSError, ValueError) as error:
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is None:
            raise MissingWeights(f"{where} is no folder on this machine: check its path.") from error
        raise MissingWeights(
            f"{where} is no folder here and not in the cache of the hub ({file}): fetch it with `hf download {source}`."
        ) from error
    check_only_data(path.parent)
    return path


_OF_DAMAGE = (
    *(SafetensorError, pickle.UnpicklingError, OSError, EOFError, RuntimeError, RecursionError),
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
)


def _loading(where: str, load: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`load(...)`, with whatever a damaged file can raise told in one sentence."""
    try:
        return load(*args, **kwargs)
    except torch.OutOfMemoryError:
        raise
    except _OF_DAMAGE as error:
        reason = " ".join(str(error).split()).rstrip(".:")[:200]
        raise DamagedCheckpoint(f"{where} cannot be loaded ({reason}): fetch it again.") from error


def _refuse_misfits(where: str, missing: list[str], unknown: list[str], reshaped: list[str]) -> None:
    faults = [
        f"{len(names)} {fault} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for names, fault in ((missing, "missing"), (unknown, "unknown"), (reshaped, "of another shape"))
        if names
    ]
    if faults:
        raise DamagedCheckpoint(f"{where} does not fit the model (tensors: {', '.join(faults)}): fetch it again.")
