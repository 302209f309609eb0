"""A checkpoint's own method, and the plan that a GGUF file made of the checkpoint is to carry.

llama.cpp's converter writes what llama.cpp has keys for and passes over the rest in silence: dynamic NTK,
LogN, the windows of most architectures, an attention factor, betas or `truncate` of YaRN's own, and every
scaling that the converter of an architecture does not ask for. Keeping the method puts into a plan what the
file does not say.

What is compared is frequencies, not names: with `theta_i` what transformers turns pair i by and `b` the
*file's* base (the two may differ), the factors are `b^(-2i/d) / theta_i`, and a file says them if its own are
the same to F32 rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk_plan.checkpoint import NoRotationError
from ropewalk_plan.checkpoint_extend import extend
from ropewalk_plan.checkpoint_keep import keep
from ropewalk_plan.checkpoint_own import CheckpointMethod, read_checkpoint_method
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.plan import ContextPlan, PlanError

__all__ = [
    "KEEP",
    "NONE",
    "CheckpointMethod",
    "NoRotationError",
    "plan_for_converted",
    "read_checkpoint_method",
]

KEEP = "keep"
NONE = "none"


def plan_for_converted(
    own: CheckpointMethod,
    header: GgufHeader,
    *,
    method: str | None = None,
    target_length: int | None = None,
    train_length: int | None = None,
    options: Mapping[str, str] | None = None,
) -> ContextPlan | None:
    """The plan for a GGUF file that llama.cpp's converter made of a checkpoint.

    **The checkpoint's own method** (`method` None or `keep`): what makes the patched library run it as
    transformers does, or None where the file's own keys say all of it, its length included. A static scaling
    (linear, YaRN, Llama 3) is one step with the effective factors; dynamic NTK and LongRoPE's two lists are
    schedules; sliding windows come along where llama.cpp has none for the architecture and they are narrower
    than the target. L is the length before the scaling where the config says it.

    Its target length by default is how far the method reaches: for YaRN `factor` times the length before it
    (Qwen 2.5's YaRN by 4 makes 131072 of the 32768 that its file would report), and so for linear scaling
    where the config says that length; for dynamic NTK `factor` times L (transformers' formula stops at no
    length; its factor is what people choose for the one they want); for Qwen's own form, and LogN, the
    config's `max_position_embeddings`, or 4 L where that is not beyond L; for the others
    `max_position_embeddings`. A target length that is given must be from L on, and for static methods no
    longer than they reach; linear scaling in a config that does not say its L reaches `factor` times
    `max_position_embeddings`, because some configs leave that as it was before. Dynamic methods and LogN go
    as far as asked. (Dynamic NTK's steps each have what transformers computes for the length at their end, so
    for lengths between they interpolate a little further than transformers does.)

    **`none`**: no plan.

    **Another method** is computed from the checkpoint's effective frequencies, whatever of them the file has
    lost, and replaces what the checkpoint does dynamically (dynamic NTK, LogN). Without `train_length` it
    extends what the checkpoint is, from its full length on. With it, L is the length *before* extension, as
    for a checkpoint that was fine-tuned with the method: where the config declares a scaling of its own and L
    is the length before that, the method replaces the scaling and is not applied on top of it; where L is its
    full length, it is applied on top; any other L contradicts the config. Linear scaling by s whose config
    says no length before it counts as from `max_position_embeddings / s`; a `max_sequence_length` of s times
    `max_position_embeddings` says that it is from the latter (LongChat, Vicuna). Where neither is said,
    `max_position_embeddings` as `train_length` could mean both, and is refused.
    Where the config declares none, L is as given, by default the longer of what config and file say. Methods
    that leave the rotation alone (LogN, windows, streaming) leave the checkpoint's scaling in force. The
    target length is then the checkpoint's own, where that is beyond L. The checkpoint's windows stay, since
    it was trained with them, unless the method decides on windows itself.

    Args:
        own: the checkpoint's method.
        header: the file that llama.cpp's converter made.
        method: `keep`, `none`, or a name of `METHODS`, or several joined by `+`; None as `keep`.
        target_length: L' in tokens.
        train_length: L in tokens; for another method only.
        options: the method's options as text; for another method only.

    Raises:
        PlanError: the plan cannot be made; the message names what is in the way, and what to do.
    """
    if method == NONE:
        return None
    if method is not None and method != KEEP:
        return extend(
            own,
            header,
            method=method,
            target_length=target_length,
            train_length=train_length,
            options=options or {},
        )
    if train_length is not None or options:
        given = "train_length" if train_length is not None else "option " + ", ".join(options or {})
        raise PlanError(f"{given} is given, and the checkpoint's own method takes none; name a method")
    return keep(own, header, target_length)
