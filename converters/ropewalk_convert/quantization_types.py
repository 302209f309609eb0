"""The types that llama.cpp's quantizer knows: of whole files (mixtures, mostly) and of single tensors.

Names and numbers are those of llama.cpp (`enum llama_ftype`, `enum ggml_type` and the list of its program
`llama-quantize`); the tests compare both tables with the library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorType:
    """How one tensor's numbers are stored: in blocks along its rows.

    Attributes:
        name: ggml's name, in upper case.
        number: ggml's number.
        block: numbers in a block; a row's length has to be a multiple of it.
        block_bytes: bytes of a block.
    """

    name: str
    number: int
    block: int
    block_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that a number takes."""
        return 8 * self.block_bytes / self.block

    @property
    def quantized(self) -> bool:
        """Whether it is more than a float of some width."""
        return self.block > 1

    def n_bytes(self, n_elements: int) -> int:
        """Bytes of `n_elements` numbers in whole rows."""
        return n_elements // self.block * self.block_bytes


@dataclass(frozen=True)
class FileType:
    """What a whole file can be quantized to.

    Attributes:
        name: llama.cpp's name, in upper case.
        number: its `llama_ftype`.
        base: the type of most of its matrices; what the mixture changes comes on top.
        description: one line for people.
    """

    name: str
    number: int
    base: TensorType
    description: str


TENSOR_TYPES: dict[str, TensorType] = {
    name: TensorType(name, number, block, block_bytes)
    for name, number, block, block_bytes in (
        ("F32", 0, 1, 4),
        ("F16", 1, 1, 2),
        ("BF16", 30, 1, 2),
        ("Q1_0", 41, 128, 18),
        ("Q2_0", 42, 64, 18),
        ("Q4_0", 2, 32, 18),
        ("Q4_1", 3, 32, 20),
        ("Q5_0", 6, 32, 22),
        ("Q5_1", 7, 32, 24),
        ("Q8_0", 8, 32, 34),
        ("MXFP4", 39, 32, 17),
        ("NVFP4", 40, 64, 36),
        ("Q2_K", 10, 256, 84),
        ("Q3_K", 11, 256, 110),
        ("Q4_K", 12, 256, 144),
        ("Q5_K", 13, 256, 176),
        ("Q6_K", 14, 256, 210),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
        ("IQ1_S", 19, 256, 50),
        ("IQ1_M", 29, 256, 56),
        ("IQ2_XXS", 16, 256, 66),
        ("IQ2_XS", 17, 256, 74),
        ("IQ2_S", 22, 256, 82),
        ("IQ3_XXS", 18, 256, 98),
        ("IQ3_S", 21, 256, 110),
        ("IQ4_NL", 20, 32, 18),
        ("IQ4_XS", 23, 256, 136),
    )
}
"""What the quantizer can turn a tensor into, by upper-case name."""

FILE_TYPES: dict[str, FileType] = {
    name: FileType(name, number, TENSOR_TYPES[base], description)
    for name, number, base, description in (
        ("F32", 0, "F32", "32-bit floats"),
        ("F16", 1, "F16", "16-bit floats"),
        ("BF16", 32, "BF16", "16-bit floats with the range of 32 bits, as most checkpoints have"),
        ("Q8_0", 7, "Q8_0", "8 bits: next to no loss"),
        ("Q6_K", 18, "Q6_K", "6 bits: very little loss"),
        ("Q5_K_M", 17, "Q5_K", "5 bits, more for half of the values and downward projections"),
        ("Q5_K_S", 16, "Q5_K", "5 bits throughout"),
        ("Q5_1", 9, "Q5_1", "5 bits, the older format with an offset for each block"),
        ("Q5_0", 8, "Q5_0", "5 bits, the older format"),
        (
            "Q4_K_M",
            15,
            "Q4_K",
            "4 bits, more for half of the values and downward projections: a usual choice",
        ),
        ("Q4_K_S", 14, "Q4_K", "4 bits, more for the first layers"),
        ("Q4_1", 3, "Q4_1", "4 bits, the older format with an offset for each block"),
        ("Q4_0", 2, "Q4_0", "4 bits, the older format, which some processors are quickest with"),
        (
            "MXFP4_MOE",
            38,
            "MXFP4",
            "4-bit floats for the experts of a mixture of experts, 8 bits for the rest",
        ),
        ("IQ4_NL", 25, "IQ4_NL", "4 bits with uneven steps, blocks of 32"),
        ("IQ4_XS", 30, "IQ4_XS", "4 bits with uneven steps, smaller"),
        ("Q3_K_L", 13, "Q3_K", "3 bits, 5 for values, outputs and downward projections"),
        ("Q3_K_M", 12, "Q3_K", "3 bits, more for values, outputs and downward projections"),
        ("Q3_K_S", 11, "Q3_K", "3 bits throughout"),
        ("IQ3_M", 27, "IQ3_S", "3 bits by a codebook, 4 for values and outputs"),
        ("IQ3_S", 26, "IQ3_S", "3 bits by a codebook"),
        ("IQ3_XS", 22, "IQ3_S", "3 bits by a codebook, fewer for queries and keys"),
        ("IQ3_XXS", 23, "IQ3_XXS", "3 bits by a smaller codebook"),
        ("Q2_K", 10, "Q2_K", "2 bits, 3 for values, outputs and downward projections"),
        ("Q2_K_S", 21, "Q2_K", "2 bits nearly throughout"),
        ("Q2_0", 41, "Q2_0", "2 bits, for models trained for it"),
        ("IQ2_M", 29, "IQ2_S", "2 bits by a codebook, 3 for values and outputs"),
        ("IQ2_S", 28, "IQ2_XS", "2 bits by a smaller codebook, 3 for values and outputs"),
        ("IQ2_XS", 20, "IQ2_XS", "2 bits by a smaller codebook"),
        ("IQ2_XXS", 19, "IQ2_XXS", "2 bits by the smallest codebook"),
        ("TQ2_0", 37, "TQ2_0", "three values in 2 bits, for models trained so"),
        ("TQ1_0", 36, "TQ1_0", "three values packed closely, for models trained so"),
        ("IQ1_M", 31, "IQ1_M", "less than 2 bits by a codebook"),
        ("IQ1_S", 24, "IQ1_S", "the fewest bits by a codebook"),
        ("Q1_0", 40, "Q1_0", "1 bit, for models trained for it"),
    )
}
"""What the quantizer makes, by upper-case name, from the widest down."""

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
"""Short names of file types."""

MADE_WITH_IMPORTANCE = frozenset(
    ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S")
)
"""File types that llama.cpp does not make without an importance matrix, where rows are multiples of 256."""

TENSORS_WITH_IMPORTANCE = frozenset(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"))
"""Tensor types that need one."""
