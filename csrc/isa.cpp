// Compiled once per instruction set, which MEMORYCELL_ISA names: this file's copy of the engine.
#include "fused_backward.hpp"
#include "fused_forward.hpp"
#include "outer.hpp"
#include "scan.hpp"
#include "step.hpp"

namespace memorycell {
namespace MEMORYCELL_ISA {

static void forward(const Forward &f, int64_t begin, int64_t end, void *scratch) {
    with_cell(f.cell, [&](auto cell) {
        if constexpr (recurrent(Cell(cell.value)))
            forward_cell<Cell(cell.value)>(f, begin, end, scratch);
    });
}
static size_t forward_scratch(const Forward &f, int64_t rows) {
    return most_scratch(rows, [&](Arena &arena, int64_t rows) { forward_buffers(arena, f, rows); });
}
static void backward(const Backward &f, int64_t begin, int64_t end, void *scratch) {
    with_cell(f.cell, [&](auto cell) {
        if constexpr (recurrent(Cell(cell.value)))
            backward_cell<Cell(cell.value)>(f, begin, end, scratch);
    });
}
static size_t backward_scratch(const Backward &f, int64_t rows) {
    return most_scratch(rows, [&](Arena &arena, int64_t rows) { backward_buffers(arena, f, rows); });
}
static size_t fused_forward_scratch(const Fused &w, int64_t rows) {
    return most_scratch(rows, [&](Arena &arena, int64_t rows) { fused_forward_buffers(arena, w, rows); });
}
static void fused_forward(const Fused &w, int64_t begin, int64_t end, void *scratch) {
    with_cell(w.f.cell, [&](auto cell) {
        if constexpr (recurrent(Cell(cell.value)) && Cell(cell.value) != Cell::layernorm)
            fused_forward_cell<Cell(cell.value)>(w, begin, end, scratch);
    });
}
static size_t fused_backward_scratch(const Backward &f, const WeightGradients *w, int64_t rows) {
    return most_scratch(rows, [&](Arena &arena, int64_t rows) { fused_backward_buffers(arena, f, w, rows); });
}
static void fused_backward(const Backward &f, const WeightGradients *w, int64_t begin, int64_t end, void *scratch) {
    with_cell(f.cell, [&](auto cell) {
        if constexpr (recurrent(Cell(cell.value)) && Cell(cell.value) != Cell::layernorm)
            fused_backward_cell<Cell(cell.value)>(f, w, begin, end, scratch);
    });
}
static void scan_forward(const Scan &s, int64_t begin, int64_t end) {
    with_cell(s.cell, [&](auto cell) {
        if constexpr (!recurrent(Cell(cell.value)))
            scan_forward_cell<Cell(cell.value)>(s, begin, end);
    });
}
static void scan_backward(const Scan &s, int64_t begin, int64_t end) {
    with_cell(s.cell, [&](auto cell) {
        if constexpr (!recurrent(Cell(cell.value)))
            scan_backward_cell<Cell(cell.value)>(s, begin, end);
    });
}
static bool step(const Step &s) {
    bool finite = true;
    with_cell(s.cell, [&](auto cell) { finite = step_cell<Cell(cell.value)>(s); });
    return finite;
}
static size_t step_scratch(const Step &s) {
    Arena arena{nullptr};
    step_buffers(arena, s);
    return arena.used;
}
static void multiply(const Packed &w, const float *a, int64_t rows, const float *bias, float *c, void *scratch) {
    const int64_t piece = 16 * ROWS; // rows of A that stay in the cache during a pass over all panels
    for (int64_t m = 0; m < rows; m += piece)
        product(w, a + m * w.columns, w.columns, rows - m < piece ? rows - m : piece, c + m * w.rows, w.rows, scratch,
                bias);
}
static size_t multiply_scratch(const Packed &w, int64_t rows) {
    return product_scratch(w, rows < 16 * ROWS ? rows : 16 * ROWS);
}
static size_t outer_scratch_of(int64_t columns) { return outer_scratch(vectors(columns)); }
static void outer_any(const float *left, const float *right, int64_t M, int64_t N, int64_t K, Precision precision,
                      int64_t begin, int64_t end, float *c, float *sums, void *scratch) {
    const Right rights[] = {{nullptr, right, K, c}};
    if (precision == Precision::bfloat16)
        outer<Precision::bfloat16>(left, M, N, rights, begin, end, sums, scratch);
    else
        outer<Precision::float32>(left, M, N, rights, begin, end, sums, scratch);
}
static void map(Function function, const float *in, float *out, int64_t count) {
    for_lanes(count, [&](int64_t u, auto lanes) {
        const F x = lanes.load(in + u);
        lanes.store(out + u, function == Function::exp ? exp(x) : function == Function::sigmoid ? sigmoid(x) : tanh(x));
    });
}

// Peak memory bandwidth and arithmetic, for the floors that benchmarks print.
static float read(const float *p, int64_t count, int64_t repeats) {
    F acc[8] = {};
    for (int64_t k = 0; k < repeats; k++)
        for (int64_t u = 0; u + 8 * V <= count; u += 8 * V)
            for (int j = 0; j < 8; j++)
                acc[j] += load(p + u + j * V);
    F total = splat(0);
    for (F &a : acc)
        total += a;
    return sum(total);
}
template <class Sum, class Dot> static int64_t repeat_dot(int64_t repeats, int64_t each, Dot dot) {
    Sum acc[ROWS * NV] = {}; // as many independent sums as in the products
    U a = U{} + 0x3f803f80u; // ones as float32 and as bfloat16: never denormal
    for (int64_t k = 0; k < repeats; k++) {
        for (int i = 0; i < 16; i++)
            for (Sum &sum : acc)
                sum = dot(sum, a, a);
        asm volatile("" : "+m"(a)); // prevents folding of the loops
    }
    Sum total{};
    for (Sum &sum : acc)
        total += sum;
    asm volatile("" : : "r"(&total) : "memory");
    return repeats * 16 * ROWS * NV * V * each;
}
static int64_t multiply_add(Precision precision, int64_t repeats) {
    if (precision == Precision::float32)
        return repeat_dot<F>(repeats, 2, [](F s, U a, U b) { return s + bits<F>(a) * bits<F>(b); });
    if (precision == Precision::bfloat16)
        return repeat_dot<F>(repeats, 4, dot_bfloat16);
    return repeat_dot<I>(repeats, 8, dot_int8);
}

} // namespace MEMORYCELL_ISA

#define QUOTE(name) #name
#define TEXT(name) QUOTE(name)
#define JOIN(a, b) a##b
#define ENGINE(name) JOIN(engine_, name)

const Engine ENGINE(MEMORYCELL_ISA) = {
    TEXT(MEMORYCELL_ISA),
    MEMORYCELL_ISA::packed_bytes,
    MEMORYCELL_ISA::pack,
    MEMORYCELL_ISA::forward_scratch,
    MEMORYCELL_ISA::forward,
    MEMORYCELL_ISA::backward_scratch,
    MEMORYCELL_ISA::backward,
    MEMORYCELL_ISA::gate_panel_bytes,
    MEMORYCELL_ISA::pack_gates,
    MEMORYCELL_ISA::fused_forward_scratch,
    MEMORYCELL_ISA::fused_forward,
    MEMORYCELL_ISA::fused_backward_scratch,
    MEMORYCELL_ISA::fused_backward,
    MEMORYCELL_ISA::scan_forward,
    MEMORYCELL_ISA::scan_backward,
    MEMORYCELL_ISA::step_scratch,
    MEMORYCELL_ISA::step,
    MEMORYCELL_ISA::all_finite,
    MEMORYCELL_ISA::multiply_scratch,
    MEMORYCELL_ISA::multiply,
    MEMORYCELL_ISA::outer_scratch_of,
    MEMORYCELL_ISA::outer_any,
    MEMORYCELL_ISA::map,
    MEMORYCELL_ISA::read,
    MEMORYCELL_ISA::multiply_add,
};

} // namespace memorycell
