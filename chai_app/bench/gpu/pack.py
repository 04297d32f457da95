"""Pack what a bare machine with a GPU needs into one file: `python -m chai_app.bench.gpu.pack kit.tar.xz`.

Wheels of what torch and transformers do not bring (for Python 3.12 on Linux, x86-64, in the versions installed here)
unpacked in site/, our code, the recorded cases, and for training the parts and latents that it stands on. Nothing of it
is kept here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...files import human_bytes
from ..header import ROOT
from .kit import GOLDEN
from .learn import NEXT, SHARES, STANDS_ON

FOR_ALL = ("diffusers", "ftfy", "wcwidth", "beautifulsoup4", "soupsieve", "platformdirs")
FOR_VIDEOS = ("av", "xformers", "torchao")
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
CODE = (".py", ".json", ".txt")


def install(names: Sequence[str], site: Path) -> None:
    """Unpack wheels into `site`."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "--target", str(site)]
    subprocess.run([*command, *map(_pinned, names)], check=True)


def _pinned(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name


def cut_latents(source: Path, target: Path, most_bytes: int) -> None:
    """The beginning of the stores in `source`, in whole blocks, as much of each as its share of the training."""
    target.mkdir(parents=True)
    for kind, share in (("frames", SHARES["frames"]), ("clips", 1 - SHARES["frames"])):  # donors are clips
        counter = source / f"train-{kind}.json"
        if not counter.is_file():
            continue
        there: int = json.loads(counter.read_text())["done"]
        files = [source / f"train-{kind}.{each}" for each in ("latents", "coverage")]
        row_bytes = [file.stat().st_size // there for file in files]
        kept = min(there, int(share * most_bytes / sum(row_bytes)) // 32 * 32)
        for file, size in zip(files, row_bytes, strict=True):
            with file.open("rb") as whole:
                (target / file.name).write_bytes(whole.read(kept * size))
        (target / counter.name).write_text(json.dumps({"done": kept}))
        print(f"{kind}: {kept} of {there}")


def add_parts(archive: tarfile.TarFile) -> None:
    """Those parts of the next demo model that training loads."""
    for name in STANDS_ON:
        archive.add(NEXT / name, (NEXT / name).relative_to(ROOT))


def pack(target: Path, parts: Sequence[str], latents: Path | None, latents_mb: float) -> int:
    """Write the file. Returns: its bytes."""
    has_videos = bool({"right", "fast"} & set(parts))
    with tempfile.TemporaryDirectory() as folder, tarfile.open(target, "w:xz") as archive:
        site = Path(folder) / "site"
        install([*FOR_ALL, *(FOR_VIDEOS if has_videos else ())], site)
        for each in sorted(site.iterdir()):
            if each.name not in ("bin", "test"):  # torchao's tests would hide Python's own `test`
                archive.add(each, f"site/{each.name}")
        for path in sorted((ROOT / "chai_app").rglob("*")):
            if path.suffix in CODE:
                archive.add(path, path.relative_to(ROOT))
        if has_videos:
            archive.add(ROOT / "assets" / "demo" / "tokenizer", "assets/demo/tokenizer")
        if "right" in parts:
            for path in sorted(GOLDEN.glob("*")):
                if path.name.startswith(
                    ("stdit3_config", "stdit3_weights", "stdit3_cases", "vae_w", "vae_c", "rflow_c")
                ):
                    archive.add(path, path.relative_to(ROOT))
        if "train" in parts:
            add_parts(archive)
            if latents is not None:
                cut_latents(latents, Path(folder) / "latents", int(1e6 * latents_mb))
                archive.add(Path(folder) / "latents", "latents")
    return target.stat().st_size


def main(arguments: Sequence[str] | None = None) -> None:
    from .run import PARTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, metavar="FILE.tar.xz")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["right", "fast"])
    parser.add_argument("--latents", type=Path, help="the folder of stores to train from")
    parser.add_argument("--latents-mb", type=float, default=40, help="how much of them to take")
    options = parser.parse_args(arguments)
    size = pack(options.target, options.parts, options.latents, options.latents_mb)
    print(f"{options.target}: {human_bytes(size)}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
