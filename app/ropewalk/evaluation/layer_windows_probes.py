"""The texts that windowed layers are judged by: passkey prompts with their answers, and real text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk.engine import Engine
from ropewalk.evaluation.layer_windows import Calibration, Probe
from ropewalk.evaluation.passkey_prompt import build_prompt, make_cell
from ropewalk.evaluation.retrieval_order import common_tokens

TEXT_SCORED = 256
"""Tokens at the end of a stretch of text that are scored."""

_OTHER_KEYS = 0x5EED0F
"""Keeps the keys of a calibration apart from those of the check, which have the seed itself."""


class CalibrationError(ValueError):
    """What was asked for can say nothing about windows; the message is a sentence."""


@dataclass(frozen=True)
class CalibrationTexts:
    """A calibration with its tokens.

    Attributes:
        calibration: what is asked.
        tokens: of each probe, by its name.
        left_out: prompts whose key lies within the window, by their names: they could not tell anything.
    """

    calibration: Calibration
    tokens: Mapping[str, tuple[int, ...]]
    left_out: tuple[str, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest probe; 0 where there is none."""
        return max(map(len, self.tokens.values()), default=0)


NOTHING_ASKED = CalibrationTexts(Calibration(()), {}, ())
"""Where layers are given and not searched for."""


def calibration_texts(
    engine: Engine,
    *,
    lengths: Sequence[int],
    depths: Sequence[float],
    keys: int,
    seed: int,
    reach: int,
    text: str,
    text_name: str,
) -> CalibrationTexts:
    """Prompts of every length and depth, and a stretch of text of the longest length.

    Args:
        engine: a loaded model, which counts the tokens.
        lengths: prompt lengths in tokens.
        depths: where the key lies, as shares of the filler.
        keys: prompts for each length and depth.
        seed: other seeds give other keys.
        reach: tokens that a windowed layer sees: window and sinks.
        text: real text, long enough for the longest length; "" for none.
        text_name: what to call it.

    Raises:
        PromptLengthError: a length is too short for a prompt.
        CalibrationError: no key lies further back than a window reaches, or the text is too short.
    """
    probes: list[Probe] = []
    tokens: dict[str, tuple[int, ...]] = {}
    left_out: list[str] = []
    for length in sorted(set(lengths)):
        for depth in sorted(set(depths)):
            for trial in range(keys):
                name = f"key {trial + 1}, {length:,} tokens at {depth:g}"
                prompt, answer = _prompt(engine, length, depth, trial, seed)
                if (1.0 - depth) * len(prompt) <= reach:
                    left_out.append(name)
                    continue
                tokens[name] = prompt + answer
                probes.append(Probe(name, "key", length, depth, len(tokens[name]), len(answer)))
    if not probes:
        raise CalibrationError(
            f"no key lies further back than the {reach:,} tokens that a windowed layer sees: give longer "
            "--lengths, smaller --depths or a smaller --window"
        )
    if text:
        length = max(lengths)
        name = f"text, {length:,} tokens"
        tokens[name] = text_tokens(engine, text, text_name, 0, length)
        probes.append(Probe(name, "text", length, None, length, min(TEXT_SCORED, length // 2)))
    probes.sort(key=lambda probe: (probe.length, probe.kind, probe.depth or 0.0))
    return CalibrationTexts(Calibration(tuple(probes)), tokens, tuple(left_out))


def text_tokens(engine: Engine, text: str, name: str, start: int, length: int) -> tuple[int, ...]:
    """So many tokens of a text, from one of them on.

    Raises:
        CalibrationError: it is too short.
    """
    tokens = engine.tokenize(text)
    if len(tokens) < start + length:
        raise CalibrationError(
            f"{name} has {len(tokens):,} tokens, and {start + length:,} are needed: give a longer --text, or "
            "shorter lengths"
        )
    return tuple(tokens[start : start + length])


def _prompt(
    engine: Engine, length: int, depth: float, trial: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A passkey prompt and the answer to it, tokenized together, in `length` tokens at most."""
    cell = make_cell(length, depth, trial, seed ^ _OTHER_KEYS)

    def answered(text: str) -> str:
        return f"{text} {cell.key}"

    prompt = build_prompt(cell, lambda text: len(engine.tokenize(answered(text))))
    whole = engine.tokenize(answered(prompt.text))
    first = min(common_tokens(engine.tokenize(prompt.text), whole), len(whole) - 1)
    return tuple(whole[:first]), tuple(whole[first:])
