"""The options of quantizing, as one group."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import click

from ropewalk_convert.errors import QuantizeError
from ropewalk_convert.quantization import Quantization, check_quantization

Verb = Callable[..., None]

_OPTIONS = (
    click.option(
        "--quantize",
        "quantization_type",
        metavar="TYPE",
        help="Q4_K_M, Q8_0, F16 ...: any type of llama.cpp's quantizer [default: the checkpoint's, 16 bits].",
    ),
    click.option(
        "--imatrix",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="An importance matrix for the quantizer, as llama-imatrix writes them.",
    ),
    click.option(
        "--keep-output-tensor", is_flag=True, help="Leave the output tensor unquantized (output.weight)."
    ),
    click.option("--output-tensor-type", metavar="TYPE", help="Another type for the output tensor."),
    click.option("--token-embedding-type", metavar="TYPE", help="Another type for the token embeddings."),
    click.option(
        "--tensor-type",
        metavar="PATTERN=TYPE",
        multiple=True,
        help="Another type for the tensors whose names match a regular expression; may be repeated.",
    ),
    click.option("--pure", is_flag=True, help="The same type for all matrices, no mixture of llama.cpp's."),
    click.option(
        "--threads", type=click.IntRange(1), help="CPU threads of the quantizer [default: one per core]."
    ),
)


def quantize_options(verb: Verb) -> Verb:
    """Give a verb the options of quantizing; it receives `quantization`, None without `--quantize`."""

    @functools.wraps(verb)
    def with_quantization(
        *,
        quantization_type: str | None,
        imatrix: Path | None,
        keep_output_tensor: bool,
        output_tensor_type: str | None,
        token_embedding_type: str | None,
        tensor_type: tuple[str, ...],
        pure: bool,
        threads: int | None,
        **others: object,
    ) -> None:
        details = {
            "--imatrix": imatrix,
            "--keep-output-tensor": keep_output_tensor,
            "--output-tensor-type": output_tensor_type,
            "--token-embedding-type": token_embedding_type,
            "--tensor-type": tensor_type,
            "--pure": pure,
            "--threads": threads,
        }
        given = next((name for name, value in details.items() if value), None)
        if quantization_type is None:
            if given is not None:
                raise click.UsageError(
                    f"{given} is for the quantizer: name a type with --quantize, or leave it out",
                    click.get_current_context(),
                )
            verb(quantization=None, **others)
            return
        try:
            quantization = Quantization(
                type=quantization_type,
                imatrix=imatrix,
                keep_output_tensor=keep_output_tensor,
                output_tensor_type=output_tensor_type,
                token_embedding_type=token_embedding_type,
                tensor_types=tuple(_pattern_and_type(text) for text in tensor_type),
                pure=pure,
                threads=threads or 0,
            )
            check_quantization(quantization)
        except QuantizeError as error:
            raise click.UsageError(str(error), click.get_current_context()) from error
        verb(quantization=quantization, **others)

    decorated: Verb = with_quantization
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _pattern_and_type(assignment: str) -> tuple[str, str]:
    pattern, equals, name = assignment.rpartition("=")
    if not equals or not pattern or not name:
        raise click.BadParameter(f"'{assignment}' is not PATTERN=TYPE", param_hint="'--tensor-type'")
    return pattern, name
