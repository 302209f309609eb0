"""Speed, memory and identity of the patched library: `scripts/bench.py --help`.

Measures with and without plans, and against the unpatched library, in turns: every run in a process of its
own, each round's runs compared with one another. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(_ROOT / "tests"))  # the tiny models of the tests, for the proof of identity

from benchmark.baking import measure_bake  # noqa: E402
from benchmark.bench import Bench  # noqa: E402
from benchmark.child import Libraries  # noqa: E402
from benchmark.decode_at_depth import measure_decode  # noqa: E402
from benchmark.flash_attention import measure_flash_attention  # noqa: E402
from benchmark.identity import measure_identity  # noqa: E402
from benchmark.kv_types import PROSE, measure_kv_types  # noqa: E402
from benchmark.nodes import measure_nodes  # noqa: E402
from benchmark.outcome import Outcome  # noqa: E402
from benchmark.page import Section, write_section  # noqa: E402
from benchmark.passkey_sharing import measure_passkey  # noqa: E402
from benchmark.plans import METHODS, measure_plans  # noqa: E402
from benchmark.quote import QUOTED, measure_quote  # noqa: E402
from benchmark.reopen import measure_reopen  # noqa: E402
from benchmark.stock_flags import measure_stock_flags  # noqa: E402
from benchmark.stock_library import ensure_stock_library  # noqa: E402
from benchmark.stream import measure_stream  # noqa: E402
from benchmark.window_plan import WINDOWS, WindowPlan  # noqa: E402
from benchmark.windows import measure_windows  # noqa: E402
from provision.cache import cache_dir  # noqa: E402
from provision.demo_model import model_path  # noqa: E402
from provision.failure import FAILED, INTERRUPTED, USAGE, ProvisionError, run_main  # noqa: E402
from ropewalk.backend.host import available_cores  # noqa: E402
from ropewalk.evaluation.results import write_json  # noqa: E402

PAGE = _ROOT / "docs" / "benchmarks.md"
_QUICK = ("identity", "nodes", "plans")
_ALL = (
    *(*_QUICK, "stock-flags", "windows", "decode", "flash-attention", "kv-types", "stream", "bake"),
    *("quote", "reopen", "passkey"),
)
_FLASH = {"off": (False,), "on": (True,), "both": (False, True)}
_NOT_IN_THE_COMMAND = ("what", "json", "page", "jobs")
_BAD_INPUT = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", nargs="*", metavar="WHAT", help=f"of {', '.join(_ALL)} (default: {' '.join(_QUICK)})")
    add(
        "--against-stock", action="store_true", help="compare with the unpatched library, built where missing"
    )
    add("--stock-library", type=Path, metavar="FOLDER", help="compare with the unpatched libllama in FOLDER")
    add("--jobs", type=int, help="compilers at a time, where the unpatched library is built")
    add("--model", type=Path, help="default: the demo model")
    add("--threads", type=int, help="default: the cores there are")
    add(
        "--pairs",
        type=int,
        help="rounds (default: 21 of plans and decode, 3 of windows and kv-types, 7 of quote, "
        "1 of passkey, 5 of others)",
    )
    add(
        "--tokens",
        type=int,
        help="default: 512 for plans, 16384 for windows, decode and reopen, 4096 for flash-attention and "
        "kv-types, 2000 for passkey",
    )
    add("--decode-tokens", type=int, default=64, help="written at the end (default: 64)")
    add("--methods", help=f"of plans and nodes (default: {','.join(METHODS)}; windows too for nodes)")
    add("--window", type=int, default=1024, help="of windows, decode and stream: tokens (default: 1024)")
    add("--sinks", type=int, default=4, help="of windows, decode and stream (default: 4)")
    add("--lower", type=int, help="of windows: how many of the lowest layers (default: two thirds)")
    add("--flash-attn", choices=_FLASH, default="both", help="of windows (default: both) and decode (off)")
    add(
        "--text",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="of stream and reopen (default: this project's app/**/*.py), kv-types and quote (its pages)",
    )
    add(
        "--contexts",
        type=int,
        nargs="+",
        default=[2048, 8192],
        help="of kv-types: tokens of a window (default: 2048 8192)",
    )
    add("--text-tokens", type=int, default=8192, help="of kv-types: read in windows (default: 8192)")
    add("--target-length", type=int, help="of stream (default: the train length) and reopen (twice --tokens)")
    add("--times", type=int, default=10, help="of stream: target lengths that are read (default: 10)")
    add("--gigabytes", type=float, default=4.0, help="of bake: the size of the file (default: 4)")
    add("--json", type=Path, metavar="FILE", help="write every measured number there")
    add("--page", action="store_true", help="put the tables into docs/benchmarks.md")
    return parser


def main() -> int:
    """Measure as the arguments say."""
    parser = _parser()
    given = parser.parse_args()
    wanted = list(given.what) or [what for what in _QUICK if what != "identity" or _against_stock(given)]
    _check(parser, given, wanted)
    bench = _bench(given)
    record: dict[str, object] = {
        "model": bench.model.name,
        "threads": bench.threads,
        "libraries": bench.about,
    }
    failures: list[str] = []
    for what in wanted:
        try:
            outcome = _measure(what, bench, given)
        except KeyboardInterrupt:
            print(f"\nInterrupted before a round of {what} was finished.", file=sys.stderr)
            return INTERRUPTED
        command = _command(parser, given, what)
        print(f"## {what}\n\n    {command}\n\n{outcome.text}\n", flush=True)
        record[what] = {"command": command, "complete": outcome.complete, **outcome.record}
        if given.json:
            write_json(given.json, record)
        if not outcome.complete:
            print("Interrupted; the rounds above were finished.", file=sys.stderr)
            return INTERRUPTED
        if outcome.failure:
            failures.append(outcome.failure)
        elif given.page:
            write_section(PAGE, Section(what, command, outcome.text))
    if failures:
        raise ProvisionError("; ".join(failures), FAILED)
    return 0


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace, wanted: list[str]) -> None:
    for what in wanted:
        if what not in _ALL:
            parser.error(f"there is no {what!r} to measure: choose from {', '.join(_ALL)}")
    if given.page and given.stock_library:
        parser.error(
            "the page compares with the library that --against-stock builds: leave out --stock-library"
        )
    if given.json and not given.json.resolve().parent.is_dir():
        parser.error(f"{given.json}: there is no such folder")


def _against_stock(given: argparse.Namespace) -> bool:
    return bool(given.against_stock or given.stock_library)


def _bench(given: argparse.Namespace) -> Bench:
    model: Path = given.model or model_path()
    if not model.is_file():
        raise ProvisionError(f"{model} is missing: run ./scripts/setup --model", _BAD_INPUT)
    stock: Path | None = given.stock_library
    if stock is None and given.against_stock:
        stock = ensure_stock_library(_ROOT / "patches", given.jobs)
    if stock is not None and not any(stock.glob("libllama.*")):
        raise ProvisionError(f"{stock} has no libllama: name the folder that has it", USAGE)
    libraries = Libraries(stock)
    return Bench(libraries, libraries.check(), model, given.threads or available_cores())


def _measure(what: str, bench: Bench, given: argparse.Namespace) -> Outcome:
    def windows() -> WindowPlan:
        lower = _or(given.lower, max(1, bench.n_layer * 2 // 3))
        return WindowPlan(bench.n_layer, lower, given.window, given.sinks)

    methods = METHODS if given.methods is None else tuple(given.methods.split(","))
    if what == "identity":
        return measure_identity(bench)
    if what == "stock-flags":
        return measure_stock_flags(bench)
    if what == "nodes":
        return measure_nodes(bench, methods if given.methods else (*METHODS, WINDOWS), windows())
    if what == "plans":
        return measure_plans(
            bench,
            pairs=_or(given.pairs, 21),
            tokens=_or(given.tokens, 512),
            decode_tokens=given.decode_tokens,
            methods=methods,
        )
    if what == "windows":
        return measure_windows(
            bench,
            pairs=_or(given.pairs, 3),
            tokens=_or(given.tokens, 16_384),
            decode_tokens=given.decode_tokens,
            flash=_FLASH[given.flash_attn],
            plan=windows(),
        )
    if what == "decode":
        return measure_decode(
            bench,
            pairs=_or(given.pairs, 21),
            tokens=_or(given.tokens, 16_384),
            flash_attention=given.flash_attn == "on",
            plan=windows(),
        )
    if what == "bake":
        return measure_bake(
            bench,
            folder=cache_dir() / "bench",
            n_bytes=round(given.gigabytes * 1e9),
            pairs=_or(given.pairs, 5),
        )
    if what == "stream":
        return measure_stream(
            bench,
            _text(given.text or sorted((_ROOT / "app").rglob("*.py"))),
            window=given.window,
            sinks=given.sinks,
            target_length=_or(given.target_length, bench.train_length),
            times=given.times,
        )
    if what == "quote":
        return measure_quote(
            bench,
            _text(given.text or [_ROOT / name for name in QUOTED]),
            pairs=_or(given.pairs, 7),
            tokens=_or(given.tokens, 4000),
        )
    if what == "kv-types":
        return measure_kv_types(
            bench,
            _text(given.text or [_ROOT / name for name in PROSE]),
            contexts=given.contexts,
            text_tokens=given.text_tokens,
            pairs=_or(given.pairs, 3),
            tokens=_or(given.tokens, 4096),
            decode_tokens=given.decode_tokens,
        )
    if what == "passkey":
        return measure_passkey(bench, tokens=_or(given.tokens, 2000), pairs=_or(given.pairs, 1))
    if what == "reopen":
        tokens = _or(given.tokens, 16_384)
        return measure_reopen(
            bench,
            _text(given.text or sorted((_ROOT / "app").rglob("*.py"))),
            tokens=tokens,
            short_tokens=min(tokens, 1024),
            target_length=_or(given.target_length, max(2 * tokens, bench.train_length)),
            folder=cache_dir() / "bench" / "snapshots",
        )
    return measure_flash_attention(
        bench, pairs=_or(given.pairs, 5), tokens=_or(given.tokens, 4096), decode_tokens=given.decode_tokens
    )


def _text(files: list[Path]) -> str:
    try:
        return "\n\n".join(file.read_text(encoding="utf-8") for file in files)
    except OSError as error:
        raise ProvisionError(f"{error.filename} cannot be read: {error.strerror}", _BAD_INPUT) from error


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _command(parser: argparse.ArgumentParser, given: argparse.Namespace, what: str) -> str:
    """The command that makes one part, without what says where to put the results."""
    parts = [".venv/bin/python", "scripts/bench.py", what]
    for name, value in vars(given).items():
        if name in _NOT_IN_THE_COMMAND or value == parser.get_default(name):
            continue
        shown = value if isinstance(value, list) else [value]
        names = [item.name if isinstance(item, Path) else str(item) for item in shown]
        parts += [f"--{name.replace('_', '-')}", *([] if value is True else names)]
    if given.page:
        parts.append("--page")
    return shlex.join(parts)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the shell started it ignored
    sys.exit(run_main(main))
