"""Checkpoints whose weights are quantized already: what llama.cpp's converter undoes or keeps, and what not.

As `dequant_model` in its `base.py` has it, and the classes that have one of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.checkpoint_architecture import text_config
from ropewalk_convert.checkpoint_reading import read_json_object
from ropewalk_convert.errors import SourceError
from ropewalk_convert.safetensors_header import BITS, StoredTensor

_PRODUCER = "hf_quant_config.json"
_MXFP4_MODELS = frozenset({"GptOssForCausalLM"})
_OWN_FORMS = frozenset({"DeepseekV4ForCausalLM"})
_KIMI_K3 = "KimiK3ForConditionalGeneration"
_GPTQ_BITS = (2, 4, 8)


@dataclass(frozen=True)
class Packing:
    """How a quantized checkpoint's tensors hold the model's weights.

    Attributes:
        per_number: how many weights are in a number, by type; one where the type is not listed.
        kept: whether weights of four bits stay as they are in the GGUF file.
        scales: endings of the names of tensors that go into others.
    """

    per_number: Mapping[str, int]
    kept: bool = False
    scales: tuple[str, ...] = ()

    def weights(self, tensor: StoredTensor) -> int:
        """How many of the model's weights are in a tensor."""
        if self.scales and tensor.name.endswith(self.scales):
            return 0
        return tensor.n_numbers * self.per_number.get(tensor.dtype, 1)

    def keeps(self, tensor: StoredTensor) -> bool:
        """Whether a tensor's four-bit weights stay four-bit ones."""
        return self.kept and tensor.dtype in self.per_number


PLAIN = Packing({})


def read_packing(
    config: Mapping[str, object], architecture: str, path: Path, tensors: Sequence[StoredTensor]
) -> Packing:
    """How a checkpoint is quantized, if it is.

    Args:
        config: all of `config.json`.
        architecture: what it is converted as.
        path: of `config.json`; the folder may say more in another file.
        tensors: all of its tensors.

    Raises:
        SourceError: in a way that the converter cannot undo.
    """
    if architecture in _OWN_FORMS:
        return Packing({"I8": 2, "U8": 2}, kept=True, scales=(".scale",))
    quantization = {**config, **text_config(config)}.get("quantization_config")
    values = dict(quantization) if isinstance(quantization, dict) else {}
    if (values.get("quant_method") is None) and (path.parent / _PRODUCER).exists():
        producer = read_json_object(path.parent / _PRODUCER).get("producer")
        name = producer.get("name") if isinstance(producer, dict) else None
        values["quant_method"] = str(name or "").lower()
    method = values.get("quant_method")
    if method is None:
        return PLAIN
    if method == "mxfp4" and architecture in _MXFP4_MODELS:
        return Packing({"U8": 2}, kept=True, scales=("_scales",))
    if method == "bitnet":
        return Packing({"U8": 4}, scales=(".weight_scale",))
    if method == "fp8":
        halves = {"U8": 2} if values.get("store_dtype") == "mxfp4" else {}
        return Packing(halves, kept=True, scales=("_scale_inv", "_scale", ".qscale_weight", ".qscale_act"))
    if method == "modelopt":
        return Packing({"U8": 2}, kept=True, scales=("_scale", "_scale_2"))
    if method == "gptq":
        return _gptq(values, path, tensors)
    if method == "compressed-tensors":
        return _compressed(values, architecture, path)
    raise _refusal(path, f"with {method or 'an unknown method'}")


def _gptq(values: Mapping[str, object], path: Path, tensors: Sequence[StoredTensor]) -> Packing:
    bits = values.get("bits")
    if not isinstance(bits, int) or bits not in _GPTQ_BITS:
        raise _refusal(path, f"with GPTQ to {bits} bits")
    names = {tensor.name for tensor in tensors}
    for name in names:
        if name.endswith(".qweight") and f"{name.removesuffix('.qweight')}.g_idx" not in names:
            raise _refusal(path, "with GPTQ without a g_idx")
    return Packing({"I32": BITS["I32"] // bits}, scales=(".g_idx", ".qzeros", ".scales"))


def _compressed(values: Mapping[str, object], architecture: str, path: Path) -> Packing:
    form = values.get("format")
    section = values.get("config_groups")
    groups = (
        [group for group in section.values() if isinstance(group, dict)] if isinstance(section, dict) else []
    )
    scales = ("_scale", "_shape", "_zero_point")
    fp4 = "nvfp4-pack-quantized"
    if form == fp4 or (form == "mixed-precision" and groups and all(g.get("format") == fp4 for g in groups)):
        return Packing({"U8": 2}, kept=True, scales=scales)
    if form == "mxfp4-pack-quantized" and architecture == _KIMI_K3:
        return Packing({"U8": 2}, kept=True, scales=scales)
    how = f"with compressed-tensors as {form}"
    if len(groups) != 1:
        raise _refusal(path, f"{how} in {len(groups)} ways at once")
    weights = groups[0].get("weights")
    weights = weights if isinstance(weights, dict) else {}
    strategy, group_size, bits = (weights.get(key) for key in ("strategy", "group_size", "num_bits"))
    if form in ("float-quantized", "int-quantized", "naive-quantized"):
        if strategy not in ("channel", "block") or group_size is not None:
            raise _refusal(path, f"{how} by {strategy}")
        return Packing({}, scales=scales)
    if form == "pack-quantized":
        if strategy != "group" or weights.get("type", "int") != "int":
            raise _refusal(path, f"{how} by {strategy}")
        if not isinstance(group_size, int) or not isinstance(bits, int) or not 0 < bits <= BITS["I32"]:
            raise _refusal(path, f"{how} to {bits} bits")
        return Packing({"I32": BITS["I32"] // bits}, scales=scales)
    raise _refusal(path, how)


def _refusal(path: Path, how: str) -> SourceError:
    return SourceError(
        f"{path}: the weights are quantized {how}, which llama.cpp's converter does not undo; take the "
        "checkpoint that is not quantized, and --quantize to make it small"
    )
