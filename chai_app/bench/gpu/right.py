"""Is it right on this device: the recorded cases, attention kernels, Cache Attention, offloading, 8-bit text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ...attention import Donor, Recipe, cache_attention
from ...models import DEMO
from ...settings import BUNDLED_MODELS
from .kit import Kit, Lack, golden, needs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...opensora import AutoencoderKLOpenSora, OpenSoraPipeline, OpenSoraTransformer3DModel

FP32, TF32 = 1e-4, 2e-2  # furthest number, as in the tests; cuDNN's TF32 convolutions keep 10 bits
BF16 = 0.08  # of the norm: 8 bits through 4 blocks, or an autoencoder; a CPU comes to 0.041, in a decoder
EXACT = 1e-5
MANY = 65_543  # sequences: more than a grid of CUDA has places, and no multiple of anything
SIZE = {"height": 48, "width": 64}


def steps() -> list[tuple[str, float, Callable[[Kit], dict[str, Any]]]]:
    """Name, budget in seconds, and work of each."""
    return [
        ("golden fp32", 60, golden_fp32),
        ("golden bf16", 30, golden_bf16),
        ("attention kernels", 40, attention_kernels),
        ("many sequences", 30, many_sequences),
        ("cache attention", 30, cache_attention_holds),
        ("offload", 60, offload),
        ("int8 text encoder", 60, int8_text_encoder),
    ]


def golden_transformer() -> OpenSoraTransformer3DModel:
    from safetensors.torch import load_file

    from ...opensora import OpenSoraTransformer3DModel

    model = OpenSoraTransformer3DModel(**json.loads(golden("stdit3_config.json").read_text())).eval()
    model.load_released_state_dict(load_file(golden("stdit3_weights.safetensors")))
    return model


def golden_autoencoder() -> AutoencoderKLOpenSora:
    from safetensors.torch import load_file

    from ...opensora import AutoencoderKLOpenSora

    told = json.loads(golden("vae_cases.json").read_text())
    model = AutoencoderKLOpenSora(
        spatial=told["spatial"],
        temporal_filters=told["temporal"]["filters"],
        temporal_num_res_blocks=told["temporal"]["num_res_blocks"],
        temporal_downsample=told["temporal"]["temporal_downsample"],
        latents_mean=told["shift"],
        latents_std=told["scale"],
    ).eval()
    weights = load_file(golden("vae_weights.safetensors"))
    model.load_released_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


def golden_pipeline() -> OpenSoraPipeline:
    """The small models of the recorded cases, with the demo's tokenizer and a text encoder that nobody trained."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    from ...opensora import OpenSoraPipeline
    from ...opensora.schedule import new_scheduler

    transformer = golden_transformer()
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED_MODELS / DEMO / "tokenizer")
    torch.manual_seed(0)
    width = transformer.config.caption_channels
    sizes = {"d_model": width, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    text_encoder = T5EncoderModel(T5Config(vocab_size=len(tokenizer), feed_forward_proj="gated-gelu", **sizes)).eval()
    pipeline = OpenSoraPipeline(tokenizer, text_encoder, golden_autoencoder(), transformer, new_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def differences(device: str, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """How far each recorded case is off: the furthest number, and the norm of all in units of what was recorded."""
    import torch
    from safetensors.torch import load_file

    from ...opensora import FrameCondition

    found: dict[str, dict[str, float]] = {}

    def add(name: str, made: Tensor, recorded: Tensor) -> None:
        off = made.float().cpu() - recorded.float()
        found[name] = {"furthest": float(off.abs().max()), "norm": float(off.norm() / recorded.float().norm())}

    def on_device(tensor: Tensor | None, dtype: torch.dtype | None = None) -> Any:
        return None if tensor is None else tensor.to(device, dtype)

    pipeline = golden_pipeline().to(device, dtype)
    pipeline.runs_on = torch.device(device)
    transformer, vae = pipeline.transformer, pipeline.vae
    with torch.no_grad():
        recorded = load_file(golden("stdit3_cases.safetensors"))
        for name, case in json.loads(golden("stdit3_cases.json").read_text()).items():
            latents = recorded[f"{name}.x"]
            velocity = transformer(
                on_device(latents, dtype),
                torch.full(latents.shape[:1], case["timestep"], device=device),
                on_device(recorded[f"{name}.y"].squeeze(1), dtype),
                on_device(recorded[f"{name}.mask"]),
                case["fps"],
                case["height"],
                case["width"],
                on_device(recorded.get(f"{name}.x_mask")),
            ).sample
            add(f"transformer, {name}", velocity, recorded[f"{name}.out"][:, :4])
        recorded = load_file(golden("vae_cases.safetensors"))
        for name, case in json.loads(golden("vae_cases.json").read_text())["cases"].items():
            z = vae.encode(on_device(recorded[f"{name}.x"], dtype)).latent_dist.mode()
            add(f"encoder, {name}", z, recorded[f"{name}.z"])
            pixels = vae.decode(on_device(recorded[f"{name}.z"], dtype), num_frames=case["num_frames"]).sample
            add(f"decoder, {name}", pixels, recorded[f"{name}.y"])
    recorded = load_file(golden("rflow_cases.safetensors"))
    for name, case in json.loads(golden("rflow_cases.json").read_text()).items():
        latents, given = recorded[f"{name}.z"], (case["frame_mask"] or []).count(0.0)
        output = pipeline(
            prompt_embeds=on_device(recorded[f"{name}.y"].squeeze(1), dtype),
            prompt_attention_mask=on_device(recorded[f"{name}.mask"]),
            latents=latents,
            conditions=[FrameCondition(latents[:, :, :given])] if given else None,
            num_inference_steps=case["steps"],
            **{key: case[key] for key in ("height", "width", "num_frames", "fps", "guidance_scale")},
            output_type="latent",
        )
        add(f"whole run, {name}", output.latents, recorded[f"{name}.out"])
    return found


@contextmanager
def tf32(is_on: bool) -> Iterator[None]:
    """Within the block, cuDNN's convolutions in TF32 or in fp32; torch's own choice is TF32."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = is_on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def golden_fp32(kit: Kit) -> dict[str, Any]:
    """In fp32; and once more with convolutions as torch leaves them."""
    import torch

    with tf32(False):
        found = differences(kit.device, torch.float32)
    worst = max(each["furthest"] for each in found.values())
    result = {"worst": worst, "bound": FP32, "is_right": worst < FP32, "cases": found}
    if kit.is_cuda:
        with tf32(True):
            result["worst_with_tf32"] = max(e["furthest"] for e in differences(kit.device, torch.float32).values())
            result["bound_with_tf32"] = TF32
    return result


def golden_bf16(kit: Kit) -> dict[str, Any]:
    """A whole run drifts further than one pass, and is shown without a bound."""
    import torch

    found = differences(kit.device, torch.bfloat16)
    worst = max(each["norm"] for name, each in found.items() if not name.startswith("whole run"))
    return {"worst": worst, "bound": BF16, "is_right": worst < BF16, "cases": found}


def attention_kernels(kit: Kit) -> dict[str, Any]:
    """xformers' memory-efficient attention and torch's against fp64, in the shapes of 240p and 51 frames."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from ...opensora.attention import attend, attention_kernel

    if not kit.is_cuda:
        raise Lack(f"xformers has no kernel on {kit.device}")
    ops = needs("xformers.ops", "xformers")
    shapes = {"in a frame": (30, 405, 405), "along time": (810, 15, 15), "to the text": (2, 6075, 300)}
    kernels: dict[str, Callable[..., Tensor]] = {
        "xformers": ops.memory_efficient_attention,
        "torch": lambda q, k, v: scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2),
        "ours": attend,
    }
    cases, decided = [], {}
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        decided[str(dtype)] = attention_kernel("cuda", dtype, 72).value
        for place, (batch, queries, keys) in shapes.items():
            make = torch.Generator(kit.device).manual_seed(0)
            q, k, v = (
                torch.randn(batch, n, 16, 72, device=kit.device, generator=make).to(dtype)
                for n in (queries, keys, keys)
            )
            few = slice(0, 2)
            exact = kernels["torch"](q[few].double(), k[few].double(), v[few].double())
            for name, kernel in kernels.items():
                case: dict[str, Any] = {"kernel": name, "dtype": str(dtype), "place": place}
                try:
                    off = (kernel(q, k, v)[few].double() - exact).norm() / exact.norm()
                    ms = 1000 * min(kit.seconds(partial(kernel, q, k, v), 10))
                    case |= {"norm": float(off), "is_right": float(off) < bound, "ms": ms}
                except NotImplementedError as error:
                    case["lacks"] = str(error).splitlines()[0]
                cases.append(case)
    return {"decided": decided, "is_right": all(case.get("is_right", True) for case in cases), "cases": cases}


def many_sequences(kit: Kit) -> dict[str, Any]:
    """More sequences than a grid of CUDA has places, with and without a mask, against the same in pieces."""
    import torch

    from ...opensora.attention import attend

    cases, many = {}, 1_031 if kit.is_small else MANY
    for dtype in (torch.float32, torch.bfloat16):
        make = torch.Generator(kit.device).manual_seed(0)
        q, k, v = (torch.randn(many, 5, 2, 32, device=kit.device, generator=make).to(dtype) for _ in range(3))
        mask = torch.rand(many, 5, device=kit.device, generator=make) < 0.7
        mask[:, 0] = True
        for name, kept in (("plain", None), ("masked", mask)):
            whole = attend(q, k, v, kept)
            pieces = [slice(i, i + many // 8) for i in range(0, many, many // 8)]
            apart = torch.cat([attend(q[p], k[p], v[p], None if kept is None else kept[p]) for p in pieces])
            cases[f"{name}, {dtype}"] = float((whole.float() - apart.float()).abs().max())
    return {"sequences": many, "is_right": max(cases.values()) < 2e-2, "furthest": cases}


def cache_attention_holds(kit: Kit) -> dict[str, Any]:
    """What holds whatever the weights are: a donor equal to the video changes nothing, another one does, steps that
    are not the recipe's are bit-equal, and so is everything afterwards."""
    import torch

    model = golden_transformer().to(kit.device)
    shape = (2, 4, 5, SIZE["height"] // 8, SIZE["width"] // 8)
    make = torch.Generator().manual_seed(0)
    start, other = (torch.randn(shape, generator=make).to(kit.device) for _ in range(2))
    states = torch.randn(2, 6, model.config.caption_channels, generator=make).to(kit.device)

    @torch.no_grad()
    def velocity() -> Tensor:
        out: Tensor = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
        return out

    class Mirror(Donor):
        def at(self, noise_level: float, noise: Tensor) -> Tensor:
            return start

    plain, off = velocity(), {}
    recipe = Recipe(steps=(1,))
    for name, donor, chosen in (
        ("a donor equal to the video", Mirror(clean=other[:1]), recipe),
        ("another donor", Donor(clean=other[:1]), recipe),
        ("a step that is not the recipe's", Donor(clean=other[:1]), Recipe(steps=(9,))),
    ):
        with cache_attention(model, donor, chosen) as reuse:
            off[name] = float((velocity() - plain).abs().max())
        assert reuse.calls == int(chosen.is_due(1))
    off["afterwards"] = float((velocity() - plain).abs().max())
    equal, changed, outside, after = off.values()
    is_right = equal < EXACT and changed > 1e-3 and outside == 0 and after == 0
    return {"is_right": is_right, "furthest": off}


def offload(kit: Kit) -> dict[str, Any]:
    """One part on the card at a time, or one layer: the same video."""
    import torch

    if not kit.is_cuda:
        raise Lack(f"offloading takes weights off a GPU, and this is {kit.device}")

    def latents(how: str) -> Tensor:
        pipeline = golden_pipeline()
        pipeline.runs_on = torch.device(kit.device)
        if how == "none":
            pipeline.to(kit.device)
        elif how == "model":
            pipeline.enable_model_cpu_offload(device=kit.device)
        else:
            pipeline.enable_sequential_cpu_offload(device=kit.device)
        seed = torch.Generator().manual_seed(1)
        output = pipeline("a red ball", height=48, width=64, num_frames=17, num_inference_steps=3, generator=seed)
        assert not isinstance(output, tuple)
        return output.latents.cpu()

    plain = latents("none")
    off = {how: float((latents(how) - plain).abs().max()) for how in ("model", "sequential")}
    return {"is_right": max(off.values()) < EXACT, "furthest": off}


def int8_text_encoder(kit: Kit) -> dict[str, Any]:
    """States of the demo's text encoder, and of one layer as wide as T5-XXL's, in 8 bits against fp32."""
    import torch
    from transformers import T5Config, T5EncoderModel

    quantization = needs("torchao.quantization", "torchao")
    config = quantization.Int8WeightOnlyConfig()
    sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 1}
    if kit.is_small:
        sizes |= {"d_model": 256, "d_ff": 512, "num_heads": 4}
    ids = torch.randint(3, 500, (2, 40), generator=torch.Generator().manual_seed(0)).to(kit.device)
    off = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        with torch.device(kit.device):
            encoder = T5EncoderModel(T5Config(vocab_size=500, feed_forward_proj="gated-gelu", **sizes)).eval()
        with torch.no_grad():
            exact = encoder(input_ids=ids).last_hidden_state
            encoder.to(dtype)
            quantization.quantize_(encoder, config)
            states = encoder(input_ids=ids).last_hidden_state.float()
        off[str(dtype)] = float((states - exact).norm() / exact.norm())
    return {"is_right": max(off.values()) < BF16, "norm": off}


def rows(found: dict[str, Any]) -> Iterator[str]:
    """Lines of the table."""
    for name, _, _ in steps():
        result = found.get(name)
        if result is None:
            continue
        is_right = {True: "right", False: "WRONG", None: ""}[result.get("is_right")]
        worst = f"{result['worst']:.1e} of {result['bound']:.0e}" if "worst" in result else ""
        yield f"| {name} | {is_right or result['ended']} | {worst} |"
