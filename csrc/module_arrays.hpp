// Arrays that Python passes without copying: the buffer protocol.
#pragma once

#include "module.hpp"

namespace memorycell {

// A Python object with the buffer protocol, held while it is used. `letter` is its type code in Python's struct module.
class Array {
  public:
    Array(nb::handle object, const char *name, char letter, bool writable = false) {
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0)
            throw nb::python_error();
        const char given = view_.format ? view_.format[0] : 'B';
        if (given != letter && !(letter == 'l' && given == 'q')) {
            PyBuffer_Release(&view_);
            throw std::invalid_argument(std::string(name) + ": expected type '" + letter + "', got '" + given + "'");
        }
    }
    Array(const Array &) = delete;
    ~Array() { PyBuffer_Release(&view_); }
    int64_t size() const { return view_.len / view_.itemsize; }
    template <class T> T *as() const { return static_cast<T *>(view_.buf); }

  private:
    Py_buffer view_;
};

inline void expect(bool right, const char *name, int64_t wanted, int64_t got) {
    if (!right)
        throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(wanted) + " values, got " +
                                    std::to_string(got));
}

} // namespace memorycell
