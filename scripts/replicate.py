"""Replays the papers on the tiny model: `python scripts/replicate.py CHECKPOINT --work DIR`.

What it finds goes into `docs/replication.json` after every experiment, and into the page
`docs/replication.md`; started again, it goes on with what is missing. `--page-only` writes the page alone.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from replication.correlation import sweep
from replication.experiments import CONTENDERS, Experiment, L, experiments
from replication.findings import Notebook
from replication.page import write_page
from replication.running import Bench, run, within_train_length
from ropewalk.evaluation.provenance import machine, now
from ropewalk.evaluation.shipped_text import shipped_text
from ropewalk_plan import rope_spec_from_checkpoint
from tiny_model.novels import PACKAGE_FILE, NovelsError, read_novels

DOCS = Path(__file__).parent.parent / "docs"
HELD_OUT = 3
SWEPT = (2 * L, 4 * L)
SWEEP_TRIALS = 8


def main() -> int:
    """Run what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--work", type=Path, required=True, help="folder for fine-tuned weights")
    parser.add_argument("--novels", type=Path, default=PACKAGE_FILE, help="Rdata.rdb of r-cran-janeaustenr")
    parser.add_argument("--findings", type=Path, default=DOCS / "replication.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trials", type=int, help="for each depth, instead of what is planned")
    parser.add_argument("--bfloat16", action="store_true", help="fine-tune in bfloat16, in 0.6 of the time")
    parser.add_argument("--page-only", action="store_true", help="write the page of what was found so far")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    try:
        notebook = Notebook(arguments.findings, _about(arguments.checkpoint))
        if not arguments.page_only:
            _run(notebook, arguments)
    except (NovelsError, ValueError) as error:
        print(f"replicate: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("replicate: interrupted; the same command goes on with what is missing.", file=sys.stderr)
        return 130
    write_page(notebook.held, arguments.findings.parent)
    return 0


def _run(notebook: Notebook, arguments: argparse.Namespace) -> None:
    novels = read_novels(arguments.novels)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.checkpoint, local_files_only=True)
    bench = Bench(
        checkpoint=arguments.checkpoint,
        spec=rope_spec_from_checkpoint(arguments.checkpoint),
        tokenizer=tokenizer,
        learned="\n".join(novel for number, novel in enumerate(novels) if number != HELD_OUT),
        held_out=tokenizer.encode(shipped_text(), add_special_tokens=False, verbose=False),
        work=arguments.work,
        seed=arguments.seed,
        bfloat16=arguments.bfloat16,
    )
    if "within" not in notebook:
        notebook.note("within", within_train_length(bench, CONTENDERS, 4 * L))
    planned = experiments()
    tuned = next(number for number, experiment in enumerate(planned) if experiment.steps)
    for experiment in planned[:tuned]:
        _carry_out(notebook, bench, experiment, arguments.trials)
    for target in SWEPT:
        if f"sweep {target}" not in notebook:
            _say(f"sweep at {target}")
            notebook.note(f"sweep {target}", sweep(bench, target, arguments.trials or SWEEP_TRIALS))
    for experiment in planned[tuned:]:
        _carry_out(notebook, bench, experiment, arguments.trials)


def _carry_out(notebook: Notebook, bench: Bench, experiment: Experiment, trials: int | None) -> None:
    if experiment.name in notebook:
        return
    _say(experiment.name)
    start = time.perf_counter()
    planned = experiment if trials is None else replace(experiment, trials=trials)
    found = run(bench, planned, _say)
    notebook.note_experiment(
        experiment.name, {**found, "date": now(), "seconds": round(time.perf_counter() - start)}
    )


def _about(checkpoint: Path) -> dict[str, object]:
    weights = (checkpoint / "model.safetensors").read_bytes()
    return {
        "model": {"name": checkpoint.name, "sha256": hashlib.sha256(weights).hexdigest()},
        "machine": machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
