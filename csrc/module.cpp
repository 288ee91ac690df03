// The only file that knows Python.
#include <nanobind/nanobind.h>

#include "cpu.hpp"

NB_MODULE(_native, m) {
    m.doc() = "The native engine. Knows nothing of PyTorch.";
    m.def("instruction_set", &memorycell::instruction_set,
          "The widest instruction set of this processor: avx512, avx2 or plain.");
}
