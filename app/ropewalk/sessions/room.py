"""How long prompts, answers and contexts may be."""

from __future__ import annotations

from ropewalk.wording.quantities import count

_CELLS = 256
"""The library rounds the number of KV cells up to a multiple of this."""


class TooLongError(Exception):
    """A prompt beyond the model's target length; the message is a sentence with the remedies."""


def answer_room(prompt_tokens: int, target_length: int, wanted: int, *, beyond: bool = False) -> int:
    """Tokens that an answer may have.

    Args:
        prompt_tokens: tokens before it.
        target_length: L' of the model.
        wanted: the longest answer asked for.
        beyond: whether the target length is no limit.

    Raises:
        TooLongError: the prompt leaves no room within the target length.
    """
    if beyond:
        return wanted
    room = target_length - prompt_tokens
    if room < 1:
        raise TooLongError(
            f"The prompt has {count(prompt_tokens, 'token')}, beyond the target length of {target_length:,}: "
            "bake the model with a larger --target-length, or go on all the same with --beyond."
        )
    return min(wanted, room)


def context_for(tokens: int) -> int:
    """The context length to make for so many tokens."""
    return -(-tokens // _CELLS) * _CELLS
