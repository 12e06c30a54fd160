# cython: language_level=3
"""The compiled codec for Cython: `from fastframe cimport Decoder, Encoder, FrameBatch`."""

from ._batch_c cimport FrameBatch
from ._codec_c cimport Decoder
from ._encoder_c cimport Encoder
