"""The top line: which model, with which plan."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Label

from ropewalk.engine import ModelDescription
from ropewalk.wording.plans import badge


class ModelHeader(Horizontal):
    """The model's file name on the left, its plan as a badge on the right."""

    def __init__(self, model_name: str) -> None:
        """A header for a model that is not loaded yet."""
        super().__init__()
        self._model_name = model_name

    def compose(self) -> ComposeResult:
        """Name, document, badge."""
        yield Label(self._model_name, id="model-name", markup=False)
        yield Label("", id="document-name", markup=False)
        yield Label("", id="plan-badge", markup=False)

    def show_model(self, model: ModelDescription) -> None:
        """Show the loaded model's plan."""
        label = self.query_one("#plan-badge", Label)
        label.update(badge(model.plan, model.train_length))
        label.set_class(model.plan is not None, "extended")

    def show_document(self, name: str) -> None:
        """Show the open document's name."""
        self.query_one("#document-name", Label).update(name)
