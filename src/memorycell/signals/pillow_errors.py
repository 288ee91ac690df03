"""What Pillow's readers raise for damaged files: one per way in which a format can be damaged."""

import struct
import zlib

PILLOW_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    MemoryError,
    RuntimeError,
    AttributeError,
    struct.error,
    zlib.error,
)
