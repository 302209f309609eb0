"""Plans in vLLM's and llama.cpp's words, and what no config or flag says."""

from __future__ import annotations

import json
import math
import shlex

import numpy as np
import pytest

from ropewalk_plan import ContextPlan, ModelFacts, RopeSpec, ScheduleStep, make_plan
from ropewalk_plan.export import ExportError, llama_cpp_arguments, transformers_config, vllm_arguments

L = 4096
LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=L, n_layer=32)
FACTS = ModelFacts("llama", L, L, "linear", has_factors=False, sliding_window=0)


class TestVllm:
    def test_says_the_same_in_its_words(self) -> None:
        plan = make_plan(LLAMA2, "yarn", 4 * L)
        length_flag, length, overrides_flag, overrides = shlex.split(vllm_arguments(plan, LLAMA2))
        assert (length_flag, length, overrides_flag) == ("--max-model-len", str(4 * L), "--hf-overrides")
        parameters = json.loads(overrides)["rope_parameters"]
        assert parameters["short_factor"] == parameters["long_factor"] == list(plan.frequency_factors)
        assert parameters["short_mscale"] == parameters["long_mscale"] == plan.attention_factor
        assert (parameters["rope_type"], parameters["rope_theta"]) == ("longrope", 10000.0)


class TestLlamaCpp:
    @pytest.mark.parametrize(
        ("method", "flags"),
        [
            ("none", "--ctx-size 16384"),
            ("pi", "--ctx-size 16384 --rope-scaling linear --rope-scale 4"),
            ("yarn", "--ctx-size 16384 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 4096"),
        ],
    )
    def test_flags(self, method: str, flags: str) -> None:
        assert llama_cpp_arguments(make_plan(LLAMA2, method, 4 * L), LLAMA2, FACTS) == flags

    def test_a_raised_base(self) -> None:
        flags = llama_cpp_arguments(make_plan(LLAMA2, "ntk", 4 * L), LLAMA2, FACTS).split()
        assert flags[:3] == ["--ctx-size", "16384", "--rope-freq-base"]
        assert float(flags[3]) == pytest.approx(10000 * 4 ** (128 / 126), rel=1e-6)

    def test_an_attention_factor_of_its_own(self) -> None:
        plan = make_plan(LLAMA2, "yarn", 4 * L, options={"attention_factor": "1"})
        flags = llama_cpp_arguments(plan, LLAMA2, FACTS).split()
        key, _, correction = flags[flags.index("--override-kv") + 1].partition("=float:")
        assert key == "llama.rope.scaling.attn_factor"
        assert float(correction) * (0.1 * np.log(4) + 1) == pytest.approx(1.0, rel=1e-6)

    @pytest.mark.parametrize(
        ("method", "options", "low", "high"),
        [
            ("yarn", {"beta_fast": "16", "beta_slow": "2"}, 25, 41),
            ("ntk-by-parts", {"beta_fast": "8", "beta_slow": "0.5"}, 30, 50),
            ("yarn", {"beta_fast": "4", "attention_factor": "1.5"}, 35, 46),
        ],
    )
    def test_other_betas(self, method: str, options: dict[str, str], low: int, high: int) -> None:
        """The flags give llama.cpp's ramp (from pair `low` to pair `high`) and its attention factor."""
        plan = make_plan(LLAMA2, method, 4 * L, options=options)
        words = llama_cpp_arguments(plan, LLAMA2, FACTS).split()
        flags = dict(zip(words[::2], words[1::2], strict=True))
        assert (flags["--rope-scaling"], flags["--yarn-orig-ctx"]) == ("yarn", "4096")

        def pair_at(turns: str) -> float:
            return 128 * math.log(L / (float(turns) * 2 * math.pi)) / (2 * math.log(10000.0))

        assert math.floor(pair_at(flags["--yarn-beta-fast"])) == low
        assert math.ceil(pair_at(flags["--yarn-beta-slow"])) == high
        mix = 1 - np.clip((np.arange(64) - low) / (high - low), 0, 1)
        scale = float(flags["--rope-scale"])
        assert plan.frequency_factors == pytest.approx(1 / (mix + (1 - mix) / scale), rel=1e-6)
        correction = flags.get("--override-kv", "=float:1").split("=float:")[1]
        total = float(correction) * (0.1 * math.log(scale) + 1)
        assert total == pytest.approx(plan.attention_factor, rel=1e-6)

    @pytest.mark.parametrize(
        ("method", "spec", "words"),
        [
            ("dprope", LLAMA2, "single pairs"),
            ("logn", LLAMA2, "queries"),
            ("extra-pe", LLAMA2, "periodic"),
        ],
    )
    def test_says_what_there_are_no_flags_for(self, method: str, spec: RopeSpec, words: str) -> None:
        with pytest.raises(ExportError, match=words):
            llama_cpp_arguments(make_plan(spec, method, 4 * L), spec, FACTS)


@pytest.mark.parametrize("export", [transformers_config, vllm_arguments])
class TestWhatNoConfigSays:
    @pytest.mark.parametrize(
        ("method", "words"),
        [
            ("extra-pe", "periodic position map"),
            ("extra-mpe+logn", "mirrored position map and LogN"),
            ("yarn+logn", "LogN"),
        ],
    )
    def test_is_named(self, export: object, method: str, words: str) -> None:
        assert callable(export)
        with pytest.raises(ExportError, match=words):
            export(make_plan(LLAMA2, method, 4 * L), LLAMA2)

    def test_windows_layers_and_schedules(self, export: object) -> None:
        assert callable(export)
        ones = (1.0,) * 64
        steps = tuple(ScheduleStep(n * L, ones) for n in (1, 2, 4))
        uneven = (ScheduleStep(L, ones, 1.0), ScheduleStep(4 * L, ones, 1.5))
        for plan, words in (
            (ContextPlan("test", L, 4 * L, windows=(0, 512)), "windows"),
            (ContextPlan("test", L, 4 * L, schedule=steps), "schedule of 3 steps"),
            (ContextPlan("test", L, 4 * L, schedule=uneven), "one attention factor"),
            (ContextPlan("test", L, 4 * L, schedule=steps[-1:], rope_layers=(0, 2)), "some layers"),
        ):
            with pytest.raises(ExportError, match=words):
                export(plan, LLAMA2)
