"""The patched library on a GPU: parity, and speed against no plan and the unpatched library.

Builds llama.cpp for the GPU that is found, with all layers offloaded compares every method with a float64
transformer, measures, and keeps the result in docs/gpu.md under the card's name. With `--backend cpu` it is a
rehearsal, which is printed and not kept. `--pack FILE` writes all that is needed, but Python with numpy,
CMake and the GPU's toolkit, into one small archive, for a machine without a network: unpack it there and run
`python3 scripts/gpu_check.py`.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(_ROOT / name) for name in ("tests", "app", "converters", "python")]

from checks import gpu, gpu_build, gpu_pack, report  # noqa: E402
from checks.builds import build_tools  # noqa: E402
from checks.trees import Tree, checks_dir, ensure_tree  # noqa: E402
from provision.backends import AUTO, CHOICES, choose, find_program, this_machine  # noqa: E402
from provision.commands import note, output_of  # noqa: E402
from provision.demo_model import model_path  # noqa: E402
from provision.failure import FAILED, USAGE, ProvisionError, run_main  # noqa: E402
from tiny_models import write_tiny_model  # noqa: E402

_PAGE = _ROOT / "docs" / "gpu.md"


def main() -> int:
    """Pack, or build, compare, measure and keep."""
    given = _arguments()
    packed = gpu_pack.packed_trees(_ROOT)
    patched, unpatched = packed or _trees()
    if given.pack:
        if packed:
            raise ProvisionError("this is a pack already; pack from a checkout.", USAGE)
        size = gpu_pack.write_pack(given.pack, _ROOT, patched, unpatched)
        print(f"{given.pack}: {size / 1e6:.1f} MB; unpack it and run python3 scripts/gpu_check.py in it")
        return 0
    choice = choose(given.backend, this_machine())
    if choice.backend == "cpu" and given.backend == AUTO:
        raise ProvisionError("no GPU with its toolkit was found; --backend cpu rehearses without one.")
    note(f"Backend: {choice.backend} ({choice.reason}).")
    begin = report.Moment.now()
    tools = None if packed else build_tools(patched)
    libraries = gpu_build.build_both(patched, unpatched, choice.backend, tools, given.jobs)
    card = _card(libraries.patched, choice.backend)
    found = gpu.parity(libraries.patched, given.parity_depths, gpu.ALL_LAYERS)
    problems = gpu.parity_problems(found["rows"])
    if choice.backend != "cpu" and not found["offloaded"]:
        problems.append("no layer was offloaded")
    model = given.model or _model()
    speeds = gpu.speeds(
        libraries,
        model,
        given.depths,
        decode=given.decode,
        rounds=given.rounds,
        gpu_layers=gpu.ALL_LAYERS,
    )
    said = report.heading(patched, begin, "./scripts/gpu_check")
    text = "\n\n".join(
        [
            f"{said} {_toolkit(choice.backend)}",
            "### Parity",
            gpu.parity_section(found, problems),
            f"### Speed: {model.name}",
            gpu.speed_section(speeds, given.rounds, given.decode),
        ]
    )
    print(f"## {card}\n\n{text}")
    if choice.backend != "cpu":
        keep(given.page, card, text)
    return FAILED if problems else 0


def keep(page: Path, card: str, text: str) -> None:
    """Put a card's result into the page, in place of its last one."""
    whole = page.read_text(encoding="utf-8")
    if f"<!-- begin {card} -->" not in whole:
        page.write_text(
            f"{whole.rstrip()}\n\n## {card}\n\n<!-- begin {card} -->\n<!-- end {card} -->\n", encoding="utf-8"
        )
    report.put(page, card, text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./scripts/gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--backend", choices=CHOICES, default=AUTO, help="default: that of the GPU which is found")
    add("--depths", type=_numbers, default=[4096, 32768], help="of the speed (default: 4096,32768)")
    add("--parity-depths", type=_numbers, default=[300, 8000, 32000], help="default: 300,8000,32000")
    add("--decode", type=int, default=64, help="tokens written at each depth (default: 64)")
    add("--rounds", type=int, default=3, help="of the speed (default: 3)")
    add("--model", type=Path, help="GGUF file to measure (default: the demo model, or else a random one)")
    add("--jobs", type=int, help="compilers at a time (default: as cores and memory allow)")
    add("--page", type=Path, default=_PAGE, help="where the result is kept (default: docs/gpu.md)")
    add("--pack", type=Path, metavar="FILE.tar.xz", help="write an archive to carry to another machine")
    given = parser.parse_args()
    if min(given.parity_depths) < 300:
        parser.error("--parity-depths must be at least 300")
    if given.model and not given.model.is_file():
        parser.error(f"{given.model} is no file")
    return given


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _trees() -> tuple[Tree, Tree]:
    patches = _ROOT / "patches"
    return ensure_tree(patches, patched=True), ensure_tree(patches, patched=False)


def _card(library: Path, backend: str) -> str:
    found = gpu.devices(library)
    cards = [device["description"] for device in found if device["kind"] in ("gpu", "igpu")]
    if backend != "cpu" and not cards:
        raise ProvisionError(f"the library was built for {backend} and finds no such device; see its driver.")
    return " + ".join(cards) or f"{platform.machine()}, no GPU"


def _model() -> Path:
    """The demo model where it is in the cache, else a random one of about its size."""
    if model_path().exists():
        return model_path()
    path = checks_dir() / "random-80M-f32.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        write_tiny_model(
            partial, n_layer=12, n_embd=768, n_head=12, n_head_kv=4, head_dim=64, n_ff=2048, train_length=8192
        )
        partial.replace(path)
    return path


def _toolkit(backend: str) -> str:
    if backend != "cuda":
        return f"Backend: {backend}."
    said = (output_of([find_program("nvcc") or "nvcc", "--version"]) or "").strip().splitlines()
    return f"Backend: cuda, {said[-1] if said else 'of an unknown version'}."


if __name__ == "__main__":
    sys.exit(run_main(main))
