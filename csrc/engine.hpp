// The engine's calls as plain data, shared by the dispatcher and by every instruction set's copy of the code.
//
// Sequences are contiguous arrays [B, T, K] or, time first, [T, B, K]: row b, step t, feature k is at
// (b * row_stride + t * step_stride) * K + k, written [B, T, K] below for both. Masks and borders are always [B, T].
// The order of gates in G * H columns is the one of src/memorycell/cells.py. A null pointer is an absent input or an
// output that is not needed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace memorycell {

enum class Cell : int { rnn, rnn_relu, lstm, peephole, coupled, layernorm, gru, slstm, minlstm, mingru };
constexpr const char *cell_names[] = {"rnn",       "rnn_relu", "lstm",  "peephole", "coupled",
                                      "layernorm", "gru",      "slstm", "minlstm",  "mingru"};
enum class Precision : int { float32, bfloat16, int8 };

// The number of blocks of H columns in a cell's products, and of values kept per unit for the backward pass.
constexpr int blocks(Cell cell) {
    return cell == Cell::rnn || cell == Cell::rnn_relu                           ? 1
           : cell == Cell::mingru                                                ? 2
           : cell == Cell::coupled || cell == Cell::gru || cell == Cell::minlstm ? 3
                                                                                 : 4;
}
constexpr int kept(Cell cell) {
    return cell == Cell::rnn || cell == Cell::rnn_relu     ? 1
           : cell == Cell::slstm                           ? 5
           : cell == Cell::minlstm || cell == Cell::mingru ? blocks(cell)
                                                           : 4;
}
// Whether a step reads W_hh h_{t-1}. The others are scans: scan.hpp.
constexpr bool recurrent(Cell cell) { return cell != Cell::minlstm && cell != Cell::mingru; }
constexpr bool has_cell_state(Cell cell) {
    return recurrent(cell) && cell != Cell::rnn && cell != Cell::rnn_relu && cell != Cell::gru;
}
// Vectors of H values in the cell state: c; or c, n and m, one after another, in the arrays of c below.
constexpr int cell_parts(Cell cell) { return cell == Cell::slstm ? 3 : 1; }

// A matrix [N, K] packed into panels for C = A * W^T; see gemm.hpp. For a few rows of A, packing costs more than the
// product: then `plain` is the caller's matrix, row-major, in float32.
struct Packed {
    int64_t rows = 0, columns = 0; // N, K
    Precision precision = Precision::float32;
    const float *plain = nullptr;
    void *data = nullptr;
    float *scale = nullptr; // int8: [N, padded to full panels] the scale of a row's weights
    int32_t *sum = nullptr; // int8: [N] the sum of a row's weights, to undo the offset of the activations
};

// The parameters of a cell other than the two matrices.
struct Extras {
    const float *peephole = nullptr;                  // [3, H]: of the input, forget and output gate
    const float *bias_hh = nullptr;                   // [G * H]: GRU and layernorm
    const float *gain_hh = nullptr;                   // [4 * H]: layernorm
    const float *gain_c = nullptr, *bias_c = nullptr; // [H]: layernorm
};

// A layer in one direction over a full sequence, forward.
struct Forward {
    Cell cell;
    bool reverse;
    int64_t batch, steps, hidden, row_stride, step_stride;
    int64_t h_size;      // P, the features of h: those of the projection if there is one, else H
    const float *x_part; // [B, T, G * H]: W_ih x after Cell.input_transform of cells.py; null: computed from x
    int64_t input;
    const float *x;              // [B, T, I]
    const Packed *weight_ih;     // [G * H, I]
    const float *bias, *gain_ih; // [G * H], each or null; gain_ih: layernorm
    const Packed *weight;        // W_hh [G * H, H]
    Extras extras;
    const float *h_0, *c_0;       // [B, P], [B, cell_parts * H]
    const int64_t *lengths;       // [B]
    const uint8_t *border;        // [B, T]: zero the state before this step
    float zone_h, zone_c;         // fraction of the old state that is kept; masks take precedence
    const float *mask_h, *mask_c; // [B, T, P] and [B, T, H] of 0 and 1
    float *output;                // [B, T, P]
    float *h_n, *c_n;             // as h_0 and c_0
    float *gates;                 // [B, T, kept, H]
    float *cells;                 // [B, T, cell_parts * H]
    float *normalised;            // [B, T, 4 * H] layernorm: the product before gain and bias
    float *rstd;                  // [B, T] layernorm: 1 / standard deviation of that product
};

// The same in float32 in one pass (fused_forward.hpp), without x_part, weight_ih, weight and gain_ih.
struct Fused {
    Forward f;
    const float *panels_ih, *panels_hh; // packed by pack_gates
    const Packed *weight_hr;            // [P, H]: h = W_hr m with m = o tanh(c), the projection; or null
};

// The same, backward: from the gradients of output, h_n and c_n to those of x_part, h_0, c_0.
struct Backward {
    Cell cell;
    bool reverse;
    int64_t batch, steps, hidden, row_stride, step_stride;
    int64_t h_size;            // P, as in Forward
    const Packed *weight_t;    // W_hh transposed, [P, G * H]
    const Packed *weight_hr_t; // W_hr transposed, [H, P], or null; only with WeightGradients
    Extras extras;
    const float *h_0, *c_0, *output, *gates, *cells, *normalised, *rstd;
    const int64_t *lengths;
    const uint8_t *border;
    float zone_h, zone_c;
    const float *mask_h, *mask_c;
    const float *d_output, *d_h_n, *d_c_n;
    float *d_x_part;              // [B, T, G * H]
    float *d_h_part;              // [B, T, G * H]: if it differs from d_x_part (GRU, layernorm), else null
    float *d_h_0, *d_c_0;         // as h_0 and c_0
    float *d_gain_c, *d_bias_c;   // [H] layernorm, added to
    float *d_gain_hh, *d_bias_hh; // [4 * H] the same
};

// The weight gradients of the backward pass, computed block by block while the gradients of a block are in the cache;
// d_x_part and d_h_part are then not stored. Sums over one thread's rows.
struct WeightGradients {
    int64_t input;
    const float *x;                                           // [B, T, I]
    const Packed *weight_ih_t;                                // W_ih transposed, [I, G * H]; null if d_x is not needed
    float *d_x;                                               // [B, T, I], or null
    float *d_weight_ih, *d_weight_hh, *d_bias_ih, *d_bias_hh; // [G * H, I], [G * H, P], [G * H] twice
    float *d_weight_hr;                                       // [P, H] with a projection
    float *d_weight_ch;                                       // [3 * H] peephole
};

// A cell whose gates do not read the state, over a full sequence; backward from the gradients of output and h_n to
// those of x_part and h_0, which sum up in d_h_0.
struct Scan {
    Cell cell;
    bool reverse;
    int64_t batch, steps, hidden, row_stride, step_stride;
    const float *x_part, *h_0; // [B, T, G * H], [B, H]
    const int64_t *lengths;
    const uint8_t *border;
    float *output, *h_n, *gates;   // [B, T, H], [B, H], [B, T, kept, H] or null
    const float *d_output, *d_h_n; // backward, which reads `output` too
    float *d_x_part, *d_h_0;
};

// One step of sessions: rows of the states, given by slots.
struct Step {
    Cell cell;
    int64_t count, input, hidden;
    const int64_t *slots;                // [count], or null for 0 .. count - 1
    const float *x;                      // [count, I]
    const Packed *weight_ih, *weight_hh; // weight_hh: null where it is not read
    const float *bias;                   // [G * H]: the bias that the forward pass adds to x_part
    const float *gain_ih;                // [4 * H] layernorm of the input's product
    Extras extras;
    float zone_h, zone_c;
    float *h, *c;                // of slot 0; those of the next slot are `stride` values further
    int64_t stride, part_stride; // of the parts of the cell state
    float *y;                    // [count, H]
    void *scratch;               // step_scratch() bytes, aligned to 64
    bool check;                  // whether to look for NaN and infinity in the new states
};

enum class Function : int { exp, sigmoid, tanh };

// One instruction set's copy of the engine. Rows [begin, end) of the batch are independent of all others.
struct Engine {
    const char *name;
    size_t (*packed_bytes)(int64_t rows, int64_t columns, Precision);
    void (*pack)(const float *w, int64_t row_stride, int64_t column_stride, Packed &);
    size_t (*forward_scratch)(const Forward &, int64_t rows);
    void (*forward)(const Forward &, int64_t begin, int64_t end, void *scratch);
    size_t (*backward_scratch)(const Backward &, int64_t rows);
    void (*backward)(const Backward &, int64_t begin, int64_t end, void *scratch);
    size_t (*gate_panel_bytes)(Cell, int64_t hidden, int64_t columns);
    void (*pack_gates)(Cell, const float *w, int64_t hidden, int64_t columns, float *panels);
    size_t (*fused_forward_scratch)(const Fused &, int64_t rows);
    void (*fused_forward)(const Fused &, int64_t begin, int64_t end, void *scratch);
    size_t (*fused_backward_scratch)(const Backward &, const WeightGradients *, int64_t rows);
    void (*fused_backward)(const Backward &, const WeightGradients *, int64_t begin, int64_t end, void *scratch);
    void (*scan_forward)(const Scan &, int64_t begin, int64_t end);
    void (*scan_backward)(const Scan &, int64_t begin, int64_t end);
    size_t (*step_scratch)(const Step &);
    bool (*step)(const Step &); // false if a checked state is not finite
    bool (*all_finite)(const float *p, int64_t count);
    size_t (*product_scratch)(const Packed &, int64_t rows);
    // c [rows, N] = a [rows, K] W^T + bias [N] or null
    void (*product)(const Packed &, const float *a, int64_t rows, const float *bias, float *c, void *scratch);
    size_t (*outer_scratch)(int64_t columns);
    // rows [begin, end) of c [N, K] = left^T right, left [M, N], right [M, K]; sums [N] of left's columns, or null
    void (*outer)(const float *left, const float *right, int64_t M, int64_t N, int64_t K, Precision, int64_t begin,
                  int64_t end, float *c, float *sums, void *scratch);
    void (*map)(Function, const float *in, float *out, int64_t count);
    float (*read)(const float *p, int64_t count, int64_t repeats); // sums, at the speed of memory
    int64_t (*multiply_add)(Precision, int64_t repeats); // in registers only; returns the number of operations
};

extern const Engine engine_plain;
#if defined(MEMORYCELL_X86)
extern const Engine engine_avx2, engine_avx512, engine_avx512bf16;
#endif

} // namespace memorycell
