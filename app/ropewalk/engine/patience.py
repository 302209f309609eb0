"""How long an engine waits for a sign of its model process, and keeping count of that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long an engine waits before it takes its model process for hung, and ends it.

    Attributes:
        start_seconds: for the process to come up.
        silence_seconds: for any sign of life while a request is in work: about one comes every second.
        stall_seconds: for the work to go on while there are signs of life: a batch, a token, a tensor.
    """

    start_seconds: float = 120.0
    silence_seconds: float = 30.0
    stall_seconds: float = 600.0

    def __post_init__(self) -> None:
        """Checks them.

        Raises:
            ValueError: one is not positive.
        """
        for name in ("start_seconds", "silence_seconds", "stall_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")

    @property
    def slice_seconds(self) -> float:
        """How long to wait at once, so that a limit is noticed soon after it is reached."""
        return min(1.0, self.silence_seconds / 4, self.stall_seconds / 4)


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True)
class Signs:
    """What has come from the process by now.

    Attributes:
        heard: messages of any kind.
        moved: changes by the last of which its work had gone on.
    """

    heard: int
    moved: int


class Watch:
    """How long one has waited for the same event, in vain.

    Only time that was really spent waiting counts: after the owner itself was stopped, or the machine asleep,
    the process gets its full time again.
    """

    def __init__(self, patience: Patience, signs: Signs) -> None:
        """Nothing was waited yet."""
        self._patience = patience
        self._signs = signs
        self._silent = self._stalled = 0.0

    def waited(self, signs: Signs) -> str | None:
        """One more slice has passed.

        Args:
            signs: what has come by now.

        Returns:
            What to say of the process where patience is at its end.
        """
        self._silent = (
            0.0 if signs.heard != self._signs.heard else self._silent + self._patience.slice_seconds
        )
        self._stalled = (
            0.0 if signs.moved != self._signs.moved else self._stalled + self._patience.slice_seconds
        )
        self._signs = signs
        if self._silent >= self._patience.silence_seconds:
            return f"gave no sign of life for {self._patience.silence_seconds:g} seconds and was ended"
        if self._stalled >= self._patience.stall_seconds:
            return f"has not moved on for {self._patience.stall_seconds:g} seconds and was ended"
        return None
