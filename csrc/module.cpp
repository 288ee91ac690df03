// The Python module: selects the instruction set, and what benchmarks measure of the processor.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <iterator>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu.hpp"
#include "module.hpp"
#include "threads.hpp"

using namespace memorycell;
using namespace nb::literals;

namespace {

const Engine *const all_engines[] = {
#if defined(MEMORYCELL_X86)
    &engine_avx512bf16,
    &engine_avx512,
    &engine_avx2,
#endif
    &engine_plain,
};

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Engine *engine : all_engines)
        if (supported(engine->name))
            names.emplace_back(engine->name);
    return names;
}

const Engine *find_engine(const std::string &name) {
    for (const Engine *engine : all_engines)
        if (name == engine->name && supported(engine->name))
            return engine;
    std::string known;
    for (const std::string &other : instruction_sets())
        known += " " + other;
    throw std::invalid_argument("instruction set " + name + ": this processor has" + known);
}

// Mapping tens of megabytes of new memory page by page costs more than writing it: request huge pages.
void expect_much(uintptr_t address, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t huge = uintptr_t(1) << 21;
    const uintptr_t begin = (address + huge - 1) / huge * huge, end = (address + bytes) / huge * huge;
    if (begin < end)
        madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE); // a hint: it may be ignored
#else
    (void)address, (void)bytes;
#endif
}

} // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false); // packed weights of global layers live until the process ends
    m.doc() = "The native engine. Knows nothing of PyTorch: matrices and sequences arrive as addresses of float32.";
    const char *forced = std::getenv("MEMORYCELL_ISA");
    current = find_engine(forced && *forced ? forced : instruction_sets().front());
    m.def("instruction_sets", &instruction_sets, "Those this processor has, the widest first.");
    m.def(
        "instruction_set", [] { return current->name; }, "The one in use; MEMORYCELL_ISA forces another when loading.");
    m.def(
        "use", [](const std::string &name) { current = find_engine(name); },
        "Use another one for what is packed from now on.");
    m.def(
        "cells", [] { return std::vector<std::string>(std::begin(cell_names), std::end(cell_names)); },
        "The cells it has; a cell is passed to the other functions as its number in this list.");
    m.def("expect_much", &expect_much);
    m.def("share_team", &share_team, "parallel"_a, "thread_number"_a, "team_size"_a,
          "Run on the threads of a loaded GNU OpenMP: the addresses of GOMP_parallel, omp_get_thread_num and "
          "omp_get_num_threads.");
    m.def("map", [](int function, uintptr_t in, uintptr_t out, int64_t count) {
        current->map(Function(function), pointer<float>(in), pointer<float>(out), count);
    });
    m.def("read",
          [](uintptr_t p, int64_t count, int64_t repeats) { return current->read(pointer<float>(p), count, repeats); });
    m.def("multiply_add", [](int precision, int64_t n) { return current->multiply_add(Precision(precision), n); });
    define_weights(m);
    define_passes(m);
    define_steps(m);
}
