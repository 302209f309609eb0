"""What the pinned llama.cpp does about RoPE in each architecture: which of its own keys can say a plan.

Read from the source of the release in `patches/upstream.toml` (`llama_model_rope_type`, the tensors each
model creates, and the arguments of every rope call in `src/models/`). Names are those of GGUF's
`general.architecture`. When llama.cpp is moved to a newer release, this file is read against it again.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WITHOUT_ROPE = _names(
    """
    arwkv7 bert bloom clip glm5-next gpt2 gptj jais jamba jina-bert-v2 kimi-k3 kimi-linear mamba mamba2 mpt
    nemotron_h nemotron_h_moe refact rwkv6 rwkv6qwen2 rwkv7 starcoder t5 t5encoder wavtokenizer-dec
    """
)
"""No rotation anywhere. `bert` and `starcoder` have a rope type in llama.cpp but learned positions in
their graphs."""

WITH_ROPE = _names(
    """
    afmoe apertus arcee arctic baichuan bailingmoe bailingmoe2 bailingmoe3 bitnet chameleon chatglm codeshell
    cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr deepseek32 deepseek4 dflash
    dots1 dots3note dream eagle3 ernie4_5 ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon falcon-h1
    gemma gemma-embedding gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4 glm4moe gpt-oss gptneox
    granite granite_swa granitehybrid granitemoe graniteswitch grok grovemoe hrm_text hunyuan-dense
    hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais2 jina-bert-v3 laguna lfm2 lfm2moe llada llada-moe llama
    llama-embed llama4 maincoder maple mellum mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3
    mistral4 modern-bert muse-glimmer nanbeige nemotron neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe
    openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3 plm pockettts qwen qwen2
    qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp rnd1
    seed_oss smallthinker smollm3 spark2_5 stablelm starcoder2 step35 talkie xverse
    """
)
"""Architectures with at least one rotated layer."""

READS_ROPE_FREQS = _names(
    """
    apertus arcee deci eagle3 exaone exaone-moe exaone4 gemma4 granite granite_swa granitehybrid granitemoe
    llama llama-embed llama4 minicpm mistral3 nanbeige step35
    """
)
"""Create the tensor `rope_freqs.weight` and use it in their graphs. Others either refuse a file that has
it, or load it and ignore it (falcon-h1, pangu-embedded, llada, cogvlm, refact)."""

READS_LONGROPE_LISTS = _names(
    """
    apertus deci granite granite_swa granitemoe llama llama-embed minicpm minicpm3 mistral3 phi3 phimoe
    step35
    """
)
"""Create and use `rope_factors_long.weight` and `rope_factors_short.weight`."""

ROPE_SWITCHED_BY_FINETUNED = _names("granite granitehybrid graniteswitch")
"""`rope.scaling.finetuned = false` says that the model has no RoPE at all."""

BASE_RAISED_BY_ALPHA = _names("hunyuan-dense hunyuan_vl")
"""Raise the base themselves, by `rope.scaling.alpha`."""

SLIDING = _names(
    """
    afmoe cohere2 cohere2moe dots3note exaone-moe exaone4 gemma-embedding gemma2 gemma3 gemma3n gemma4
    gemma4-assistant gpt-oss granite_swa laguna lfm2 lfm2moe llama4 maple mellum mimo2 modern-bert
    muse-glimmer olmo2 plamo3 smallthinker spark2_5 step35
    """
)
"""Have natively sliding layers, which stock keys would rescale too (or leave alone: it differs), or whose
base and scale are their own."""

SLIDING_ONLY_WITH_WINDOW = _names("afmoe gemma3 lfm2 lfm2moe mellum modern-bert olmo2 plamo3 smallthinker")
"""Those of `SLIDING` whose files slide only where `attention.sliding_window` says so."""

IGNORES_SCALING = _names("cogvlm deepseek2-ocr deepseek4 dflash")
"""Rotate by constants or by rules of their own, whatever the scaling keys say."""

SCALES_SCORES_TOO = _names("deepseek2 deepseek32 glm-dsa mistral4")
"""Multiply attention scores by a term of the scaling factor, under linear scaling too; `glm-dsa` also
tells its versions apart by `context_length`."""

MULTI_LATENT = _names("bailingmoe3 hy_v4 minicpm3 plm")
"""Multi-head latent attention: stock's attention factor reaches only the rotated part of a head."""

OTHER_YARN_DEFAULTS = _names("grok mistral3")
"""Read YaRN's betas and more from the file, with defaults of their own."""

READS_YARN_LOG_MULTIPLIER = _names("deepseek2 deepseek32 mistral3 mistral4")
"""Read `rope.scaling.yarn_log_multiplier` (transformers' `mscale_all_dim`)."""


ROTATES_ONLY_WITH_LAYERS = {"baichuan": 32}
"""Rotate only with this many layers; llama.cpp takes all others for the larger model, which has ALiBi."""

# What the patch does not execute, by part of a plan (see `not_executed`; `patches/README.md` says why). What
# only a model's graph can tell, the library refuses when a context is made.

LATENT_WITH_LENGTHS = _names("bailingmoe3 deepseek2 deepseek32 dots3note glm-dsa hy_v4 mistral4")
"""Factors, where the model's own scaling has an attention factor: llama.cpp runs them as multi-head latent
attention where the file has both `attention.key_length_mla` and `attention.value_length_mla`. Their own
factor is for the rotated part of a head alone, a plan's for whole scores."""

FULL_LAYERS_DO_NOT_ROTATE = _names("cohere2 exaone-moe maple muse-glimmer")
"""Factors: in these exactly the sliding layers rotate."""

EVERY_FOURTH_DOES_NOT_ROTATE = {"afmoe": 1, "llama4": 1, "smallthinker": 0}
"""Factors: with a window, layer i does not rotate where 4 divides i + this number; without a file's own
`attention.sliding_window_pattern`, these are the layers that do not slide."""

SLIDES_UNLESS_WINDOW_IS_ZERO = _names("llama4")
"""Slide where a file does not say `attention.sliding_window`, too."""

FULL_LAYERS_DO_NOT_ROTATE_WITH_LAYERS = {"exaone4": 64}
"""Factors: with this many layers, exactly the sliding ones rotate; with fewer all do, and none slides."""

SLIDES_THROUGHOUT = _names("deepseek4")
"""Factors and LogN: no layer sees the whole context."""

SLIDES_THROUGHOUT_WITH_WINDOW = _names("lfm2")
"""The same, where the file has an `attention.sliding_window`."""

POSITIONS_OF_ITS_OWN = _names("qwen4exp")
"""Position maps: some of its rotations are by other positions than the text's."""

ATTENTION_OF_ITS_OWN = _names("minimax-m3")
"""LogN: its attention does not pass where q is scaled."""

SEVERAL_POSITIONS = _names("paddleocr qwen2vl qwen35 qwen35moe qwen3tts qwen3vl qwen3vlmoe qwen4exp")
"""Schedules of several steps, and windows: M-RoPE, a token has several positions."""

SEVERAL_POSITIONS_WITH_SECTIONS = _names("bailingmoe3 dflash glm4 glm4moe hunyuan_vl")
"""The same, where the first two of the file's `rope.dimension_sections` are above 0."""

KEYS_NORMALIZED_LAST = _names("hunyuan-dense hunyuan-moe hunyuan_vl maincoder")
"""Schedules of several steps, and streaming: a norm with weights follows the rotation of a key."""

MEMORY_OF_ITS_OWN = _names(
    """
    bailingmoe3 deepseek32 deepseek4 dots3note falcon-h1 glm-dsa granitehybrid lfm2 lfm2moe minimax-01
    minimax-m3 plamo2 qwen35 qwen35moe qwen3next qwen4exp
    """
)
"""Schedules of several steps, and windows: keys lie in another cache than the plain one and the one for
sliding layers."""

MEMORY_OF_ITS_OWN_WITH_INDEXER = _names("hy_v4")
"""The same, where the file's `attention.indexer.top_k` is above 0."""

MEMORY_OF_ITS_OWN_FOR_WINDOWS = _names("hy_v4")
"""Windows: a plain cache, but made in a place of its own, with an indexer or without."""

KEEPS_NO_KEYS = _names(
    """
    dream eurobert gemma-embedding jina-bert-v3 llada llada-moe llama-embed modern-bert neo-bert nomic-bert
    nomic-bert-moe rnd1
    """
)
"""Windows: every token is computed with all others at once, without a cache."""

SLIDES_ONLY_WITH_WINDOW = SLIDING_ONLY_WITH_WINDOW | _names("laguna")
"""Windows: those of `SLIDING` whose files slide only where `attention.sliding_window` says so."""

DRAFTS_WITH_WINDOWS = _names("dflash")
"""Windows: its layers may slide, and not in the cache of other models."""


def is_known(architecture: str) -> bool:
    """Whether the pinned llama.cpp can load this architecture."""
    return architecture in WITH_ROPE or architecture in WITHOUT_ROPE


def why_not_stock(architecture: str, sliding_window: int) -> str:
    """Why stock scaling keys cannot say a change of this architecture's rotation; empty if they can.

    Args:
        architecture: GGUF's `general.architecture`.
        sliding_window: the file's `attention.sliding_window`, 0 where it has none.
    """
    if architecture in SLIDING and (sliding_window > 0 or architecture not in SLIDING_ONLY_WITH_WINDOW):
        return f"{architecture} has sliding layers, which llama.cpp's own keys do not tell from the others"
    if architecture in IGNORES_SCALING:
        return f"{architecture} rotates by rules of its own, whatever llama.cpp's scaling keys say"
    if architecture in SCALES_SCORES_TOO:
        return f"in {architecture}, llama.cpp's scaling keys change the attention scores as well"
    return ""


def why_not_stock_yarn(architecture: str) -> str:
    """Why stock keys cannot say YaRN for this architecture; empty if they can."""
    if architecture in MULTI_LATENT:
        return f"in {architecture}, llama.cpp's attention factor reaches only the rotated part of a head"
    if architecture in OTHER_YARN_DEFAULTS:
        return f"{architecture} reads YaRN's settings in a way of its own"
    return ""
