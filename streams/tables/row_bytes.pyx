# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The bytes of rows, for compiled loops."""

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer


cdef class RowBytes:
    """The bytes of a one-dimensional array of rows, which may be strided.

    The object keeps a reference to the array. An array that is only read and begins at an odd address (a
    slice of a message) is copied.
    """

    def __cinit__(self, data, bint writable):
        PyObject_GetBuffer(data, &self.view, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        self.held = True
        if <size_t> self.view.buf & 1 and not writable:
            PyBuffer_Release(&self.view)
            self.held = False
            PyObject_GetBuffer(data.copy(), &self.view, PyBUF_STRIDES)
            self.held = True
        if self.view.ndim != 1:
            raise ValueError(f"rows come as a one-dimensional array, not {self.view.ndim}-dimensional")
        self.start = <char *> self.view.buf
        self.step, self.n, self.size = self.view.strides[0], self.view.shape[0], self.view.itemsize

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)
