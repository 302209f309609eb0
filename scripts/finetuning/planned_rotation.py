"""A rotary module that turns as a plan says: in the place of the one a transformers model came with."""

from __future__ import annotations

import torch

from ropewalk_plan import ContextPlan, PositionKind, RopeSpec


class PlannedRotation(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """Cosines and sines of a plan's angles, called and answering like transformers' own rotary modules.

    Pair i stands at dimensions i and i + n_rot/2. Where the plan has several steps, the longest position of a
    call, or what `reserved_length` says if that is more, decides which is in force, as in the library.

    Args:
        plan: with at least one step.
        spec: the model's own rotation.

    Attributes:
        reserved_length: tokens that the sequence is going to have; 0 where that is not known.
    """

    inverse_frequencies: torch.Tensor

    def __init__(self, plan: ContextPlan, spec: RopeSpec) -> None:
        super().__init__()
        # as transformers computes them, so that a factor of 1 changes no bit
        plain = 1.0 / (spec.base ** (torch.arange(0, spec.n_rot, 2, dtype=torch.float32) / spec.n_rot))
        factors = torch.tensor([step.frequency_factors for step in plan.schedule], dtype=torch.float32)
        self.register_buffer("inverse_frequencies", plain / factors, persistent=False)
        self._lengths = tuple(step.up_to_length for step in plan.schedule)
        self._attention_factors = tuple(step.attention_factor for step in plan.schedule)
        self._map = plan.position_map
        self.reserved_length = 0

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines in the type of `x`.

        Args:
            x: any tensor of the device and type wanted.
            position_ids: from 0, shape [n, tokens].

        Returns:
            Two of shape [n, tokens, n_rot], each multiplied by the attention factor.
        """
        step = self._step(max(int(position_ids.max()) + 1, self.reserved_length))
        factor = self._attention_factors[step]
        with torch.no_grad():
            angles = self._positions(position_ids).float() * self.inverse_frequencies[step]
            whole = torch.cat((angles, angles), dim=-1)
            return (whole.cos() * factor).to(x.dtype), (whole.sin() * factor).to(x.dtype)

    def _step(self, length: int) -> int:
        reached = [i for i, end in enumerate(self._lengths) if length <= end]
        return reached[0] if reached else len(self._lengths) - 1

    def _positions(self, position_ids: torch.Tensor) -> torch.Tensor:
        """p(m) of each pair, shape [n, tokens, n_rot/2]."""
        true = position_ids[..., None].expand(*position_ids.shape, self.inverse_frequencies.shape[1])
        if self._map.kind is PositionKind.IDENTITY:
            return true
        mapped = true % self._map.period
        if self._map.kind is PositionKind.MIRRORED:
            mapped = torch.minimum(mapped, self._map.period - mapped)
        pairs = torch.arange(true.shape[-1], device=true.device)
        return torch.where(pairs >= self._map.first_pair, mapped, true)


class RotatedByItself(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy here
    """A layer's attention with a rotation of its own, where the plan concerns some layers and not others.

    Args:
        attention: the layer's, which stays as it is.
        rotation: what its queries and keys are turned by.
    """

    def __init__(self, attention: torch.nn.Module, rotation: PlannedRotation) -> None:
        super().__init__()
        self.attention, self.rotation = attention, rotation

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: object,
        position_ids: torch.Tensor,
        **options: object,
    ) -> object:
        """The attention's answer, under this layer's own cosines and sines."""
        del position_embeddings  # those of all layers
        return self.attention(
            hidden_states=hidden_states,
            position_embeddings=self.rotation(hidden_states, position_ids),
            position_ids=position_ids,
            **options,
        )
