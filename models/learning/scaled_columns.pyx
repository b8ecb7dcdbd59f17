# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The scaled inputs of the online model, compiled: one pass instead of three."""

import numpy as np


def scaled(
    const float[:, :] x not None, Py_ssize_t first, const float[::1] mean not None, const float[::1] scale not None,
    float most
):
    cdef Py_ssize_t i, j, n = x.shape[0], width = mean.shape[0], step = x.strides[0]
    cdef float value, middle, unit
    cdef const float *column
    if scale.shape[0] != width or first < 0 or x.shape[1] < first + width:
        raise ValueError(f"{width} columns from {first} on of {x.shape[1]}, {scale.shape[0]} scales")
    out = np.empty((width, n), np.float32)
    cdef float[:, ::1] to = out
    cdef float *found
    with nogil:
        for j in range(width if n else 0):
            middle, unit = mean[j], scale[j]
            found, column = &to[j, 0], &x[0, first + j]
            if step == sizeof(float):  # a column in one piece
                for i in range(n):
                    value = (column[i] - middle) / unit
                    value = -most if value < -most else value
                    found[i] = most if value > most else value
            else:
                for i in range(n):
                    value = (x[i, first + j] - middle) / unit
                    value = -most if value < -most else value
                    found[i] = most if value > most else value
    return out.T
