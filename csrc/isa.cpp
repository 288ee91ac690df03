// Compiled once an instruction set, with MEMORYCELL_ISA naming it: this file's copy of the engine.
#include "step.hpp"

namespace memorycell {
namespace MEMORYCELL_ISA {

static void forward(const Forward &f, int64_t begin, int64_t end, void *scratch) {
    with_cell(f.cell, [&](auto cell) { forward_cell<Cell(cell.value)>(f, begin, end, scratch); });
}
static size_t forward_scratch(const Forward &f, int64_t rows) {
    Arena arena{nullptr};
    forward_buffers(arena, *f.weight, f.cell, f.hidden, rows);
    return arena.used;
}
static void backward(const Backward &f, int64_t begin, int64_t end, void *scratch) {
    with_cell(f.cell, [&](auto cell) { backward_cell<Cell(cell.value)>(f, begin, end, scratch); });
}
static size_t backward_scratch(const Backward &f, int64_t rows) {
    Arena arena{nullptr};
    backward_buffers(arena, f, rows);
    return arena.used;
}
static void step(const Step &s) {
    with_cell(s.cell, [&](auto cell) { step_cell<Cell(cell.value)>(s); });
}
static size_t step_scratch(const Step &s) {
    Arena arena{nullptr};
    step_buffers(arena, s);
    return arena.used;
}
static void multiply(const Packed &w, const float *a, int64_t rows, const float *bias, float *c, void *scratch) {
    const int64_t piece = 16 * ROWS; // so many rows of A stay in the cache while all panels go by
    for (int64_t m = 0; m < rows; m += piece)
        product(w, a + m * w.columns, w.columns, rows - m < piece ? rows - m : piece, c + m * w.rows, w.rows, scratch,
                bias);
}
static size_t multiply_scratch(const Packed &w, int64_t rows) {
    return product_scratch(w, rows < 16 * ROWS ? rows : 16 * ROWS);
}
static void outer_any(const float *left, const float *right, int64_t M, int64_t N, int64_t K, Precision precision,
                      int64_t begin, int64_t end, float *c, float *sums, void *scratch) {
    if (precision == Precision::bfloat16)
        outer<Precision::bfloat16>(left, right, M, N, K, begin, end, c, sums, scratch);
    else
        outer<Precision::float32>(left, right, M, N, K, begin, end, c, sums, scratch);
}
static void map(Function function, const float *in, float *out, int64_t count) {
    for_lanes(count, [&](int64_t u, auto lanes) {
        const F x = lanes.load(in + u);
        lanes.store(out + u, function == Function::exp ? exp(x) : function == Function::sigmoid ? sigmoid(x) : tanh(x));
    });
}

// What the machine can do at most, for the floors that benchmarks print.
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
static int64_t multiply_add(Precision precision, int64_t repeats) {
    constexpr int count = 3 * NV; // independent sums, enough to hide the latency of one
    F acc[count] = {};
    I whole[count] = {};
    U a = U{} + 0x3f803f80u, b = a; // ones as float32 and as bfloat16: never denormal
    for (int64_t k = 0; k < repeats; k++) {
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < count; j++)
                if (precision == Precision::float32)
                    acc[j] += bits<F>(a) * bits<F>(b);
                else if (precision == Precision::bfloat16)
                    acc[j] = dot_bfloat16(acc[j], a, b);
                else
                    whole[j] = dot_int8(whole[j], a, bits<I>(b));
        asm volatile("" : "+m"(a)); // keeps the loops from being folded
    }
    float used = 0;
    for (int j = 0; j < count; j++)
        used += acc[j][0] + float(whole[j][0]);
    asm volatile("" : : "r"(&used) : "memory");
    return repeats * 16 * count * V * (precision == Precision::float32 ? 2 : precision == Precision::bfloat16 ? 4 : 8);
}

} // namespace MEMORYCELL_ISA

#define QUOTE(name) #name
#define TEXT(name) QUOTE(name)
#define JOIN(a, b) a##b
#define ENGINE(name) JOIN(engine_, name)

const Engine ENGINE(MEMORYCELL_ISA) = {
    TEXT(MEMORYCELL_ISA),      MEMORYCELL_ISA::packed_bytes,
    MEMORYCELL_ISA::pack,      MEMORYCELL_ISA::forward_scratch,
    MEMORYCELL_ISA::forward,   MEMORYCELL_ISA::backward_scratch,
    MEMORYCELL_ISA::backward,  MEMORYCELL_ISA::step_scratch,
    MEMORYCELL_ISA::step,      MEMORYCELL_ISA::multiply_scratch,
    MEMORYCELL_ISA::multiply,  MEMORYCELL_ISA::outer_scratch,
    MEMORYCELL_ISA::outer_any, MEMORYCELL_ISA::map,
    MEMORYCELL_ISA::read,      MEMORYCELL_ISA::multiply_add,
};

} // namespace memorycell
