"""Models in, GGUF files with a context plan out."""

from ropewalk_convert.bake import BakeResult, bake
from ropewalk_convert.errors import BakeError, SourceError, SpaceError, TargetError

__all__ = ["BakeError", "BakeResult", "SourceError", "SpaceError", "TargetError", "bake"]
