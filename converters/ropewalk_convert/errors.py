"""What can go wrong while a file is made; each message is one sentence that names the file and the remedy."""

from __future__ import annotations


class BakeError(Exception):
    """A file that could not be made."""


class SourceError(BakeError):
    """The input file is missing, unreadable, damaged, or of a kind that cannot be extended."""


class TargetError(BakeError):
    """The output file cannot be made where it was asked for."""


class SpaceError(BakeError):
    """The disk is too full for the output file, or the memory for the work."""


class ConverterError(BakeError):
    """llama.cpp's converter could not convert the checkpoint."""


class ExtraMissingError(BakeError):
    """What conversion needs beyond the ordinary installation is not there."""


class QuantizeError(BakeError):
    """llama.cpp's quantizer could not quantize the file."""
