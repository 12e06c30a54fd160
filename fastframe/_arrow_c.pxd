# cython: language_level=3
"""Arrow's capsules; see `_arrow_c.pyx`."""

cdef object export_views(Py_ssize_t count, bytes views, list memories)
