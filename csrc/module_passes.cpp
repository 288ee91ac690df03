// Passes over full sequences, forward and backward: validates arguments and splits rows over threads.
#include "module.hpp"
#include "threads.hpp"

using namespace nanobind::literals;

namespace memorycell {

namespace {

void forward(int cell, bool reverse, bool time_first, int64_t batch, int64_t steps, int64_t hidden, int threads,
             const Weight *packed_hh, const Weight *packed_ih, const Weight *weight_hr, uintptr_t gain_ih,
             int64_t input, uintptr_t x, uintptr_t weight_ih, uintptr_t bias, uintptr_t weight_hh, uintptr_t weight_ch,
             uintptr_t bias_hh, uintptr_t gain_hh, uintptr_t gain_c, uintptr_t bias_c, uintptr_t x_part, uintptr_t h_0,
             uintptr_t c_0, uintptr_t lengths, uintptr_t border, uintptr_t mask_h, uintptr_t mask_c, float zone_h,
             float zone_c, uintptr_t output, uintptr_t h_n, uintptr_t c_n, uintptr_t gates, uintptr_t cells,
             uintptr_t normalised, uintptr_t rstd) {
    Forward f{};
    f.cell = Cell(cell), f.reverse = reverse, f.batch = batch, f.steps = steps, f.hidden = hidden;
    f.h_size = weight_hr ? weight_hr->packed.rows : hidden;
    f.row_stride = time_first ? 1 : steps, f.step_stride = time_first ? batch : 1;
    f.extras = {pointer<float>(weight_ch), pointer<float>(bias_hh), pointer<float>(gain_hh), pointer<float>(gain_c),
                pointer<float>(bias_c)};
    f.input = input, f.x = pointer<float>(x), f.bias = pointer<float>(bias), f.gain_ih = pointer<float>(gain_ih);
    f.x_part = pointer<float>(x_part), f.h_0 = pointer<float>(h_0), f.c_0 = pointer<float>(c_0);
    f.lengths = pointer<int64_t>(lengths), f.border = pointer<uint8_t>(border);
    f.mask_h = pointer<float>(mask_h), f.mask_c = pointer<float>(mask_c), f.zone_h = zone_h, f.zone_c = zone_c;
    f.output = pointer<float>(output), f.h_n = pointer<float>(h_n), f.c_n = pointer<float>(c_n);
    f.gates = pointer<float>(gates), f.cells = pointer<float>(cells);
    f.normalised = pointer<float>(normalised), f.rstd = pointer<float>(rstd);
    nb::gil_scoped_release release;
    const int64_t rows = (batch + threads - 1) / threads;
    if (packed_hh) {
        if (packed_ih && packed_ih->engine != packed_hh->engine)
            throw std::invalid_argument("weight_ih: packed for another instruction set");
        f.weight = &packed_hh->packed, f.weight_ih = packed_ih ? &packed_ih->packed : nullptr;
        const size_t bytes = packed_hh->engine->forward_scratch(f, rows);
        Block scratch(bytes * threads);
        over_threads(batch, threads, [&](int k, int64_t begin, int64_t end) {
            packed_hh->engine->forward(f, begin, end, static_cast<char *>(scratch.get()) + k * bytes);
        });
        return;
    }
    const Engine *engine = current;
    if (weight_hr && weight_hr->engine != engine)
        throw std::invalid_argument("weight_hr: packed for another instruction set");
    Fused fused{f, nullptr, nullptr, nullptr};
    fused.weight_hr = weight_hr ? &weight_hr->packed : nullptr;
    const size_t bytes_ih = engine->gate_panel_bytes(f.cell, hidden, input);
    Block panels(bytes_ih + engine->gate_panel_bytes(f.cell, hidden, f.h_size));
    auto *panels_ih = static_cast<float *>(panels.get()), *panels_hh = panels_ih + bytes_ih / sizeof(float);
    engine->pack_gates(f.cell, pointer<float>(weight_ih), hidden, input, panels_ih);
    engine->pack_gates(f.cell, pointer<float>(weight_hh), hidden, f.h_size, panels_hh);
    fused.panels_ih = panels_ih, fused.panels_hh = panels_hh;
    const size_t bytes = engine->fused_forward_scratch(fused, rows);
    Block scratch(bytes * threads);
    over_threads(batch, threads, [&](int k, int64_t begin, int64_t end) {
        engine->fused_forward(fused, begin, end, static_cast<char *>(scratch.get()) + k * bytes);
    });
}

// With packed_hh the input's products are in x_part; without, they are computed from x during the pass
// (fused_forward.hpp, fused_backward.hpp).
//
// Sums over rows, d_gain_c to d_bias_hh and the weight gradients, have one part per thread. With x the weight gradients
// are computed during the pass, and d_x_part and d_h_part are not written (fused_backward.hpp).
void backward(int cell, bool reverse, bool time_first, int64_t batch, int64_t steps, int64_t hidden, int threads,
              const Weight &weight_hh_t, uintptr_t weight_ch, uintptr_t bias_hh, uintptr_t gain_hh, uintptr_t gain_c,
              uintptr_t bias_c, uintptr_t h_0, uintptr_t c_0, uintptr_t lengths, uintptr_t border, uintptr_t mask_h,
              uintptr_t mask_c, float zone_h, float zone_c, uintptr_t output, uintptr_t gates, uintptr_t cells,
              uintptr_t normalised, uintptr_t rstd, uintptr_t d_output, uintptr_t d_h_n, uintptr_t d_c_n,
              uintptr_t d_x_part, uintptr_t d_h_part, uintptr_t d_h_0, uintptr_t d_c_0, uintptr_t d_gain_c,
              uintptr_t d_bias_c, uintptr_t d_gain_hh, uintptr_t d_bias_hh, int64_t input, uintptr_t x,
              const Weight *weight_ih_t, const Weight *weight_hr_t, uintptr_t d_x, uintptr_t d_weight_ih,
              uintptr_t d_weight_hh, uintptr_t d_bias_ih, uintptr_t d_weight_hr, uintptr_t d_weight_ch) {
    Backward f{};
    f.cell = Cell(cell), f.reverse = reverse, f.batch = batch, f.steps = steps, f.hidden = hidden;
    f.row_stride = time_first ? 1 : steps, f.step_stride = time_first ? batch : 1;
    f.h_size = weight_hh_t.packed.rows;
    f.weight_t = &weight_hh_t.packed, f.weight_hr_t = weight_hr_t ? &weight_hr_t->packed : nullptr;
    f.extras = {pointer<float>(weight_ch), pointer<float>(bias_hh), pointer<float>(gain_hh), pointer<float>(gain_c),
                pointer<float>(bias_c)};
    f.h_0 = pointer<float>(h_0), f.c_0 = pointer<float>(c_0);
    f.lengths = pointer<int64_t>(lengths), f.border = pointer<uint8_t>(border);
    f.mask_h = pointer<float>(mask_h), f.mask_c = pointer<float>(mask_c), f.zone_h = zone_h, f.zone_c = zone_c;
    f.output = pointer<float>(output), f.gates = pointer<float>(gates), f.cells = pointer<float>(cells);
    f.normalised = pointer<float>(normalised), f.rstd = pointer<float>(rstd);
    f.d_output = pointer<float>(d_output), f.d_h_n = pointer<float>(d_h_n), f.d_c_n = pointer<float>(d_c_n);
    f.d_x_part = pointer<float>(d_x_part), f.d_h_part = pointer<float>(d_h_part);
    f.d_h_0 = pointer<float>(d_h_0), f.d_c_0 = pointer<float>(d_c_0);
    nb::gil_scoped_release release;
    const Engine *engine = weight_hh_t.engine;
    const bool fused = weight_hh_t.packed.precision == Precision::float32 && f.cell != Cell::layernorm;
    const int64_t rows = (batch + threads - 1) / threads;
    if (weight_hr_t && !(fused && x && weight_hr_t->engine == engine))
        throw std::invalid_argument("weight_hr: expected float32 weight gradients of the same pass");
    WeightGradients w{};
    w.input = input, w.x = pointer<float>(x), w.d_x = pointer<float>(d_x);
    w.weight_ih_t = weight_ih_t ? &weight_ih_t->packed : nullptr;
    const size_t bytes =
        fused ? engine->fused_backward_scratch(f, x ? &w : nullptr, rows) : engine->backward_scratch(f, rows);
    Block scratch(bytes * threads);
    auto row = [&](uintptr_t sums, int64_t k, int64_t width) {
        return sums ? pointer<float>(sums) + k * width : nullptr;
    };
    over_threads(batch, threads, [&](int k, int64_t begin, int64_t end) {
        Backward own = f;
        own.d_gain_c = row(d_gain_c, k, hidden), own.d_bias_c = row(d_bias_c, k, hidden);
        own.d_gain_hh = row(d_gain_hh, k, 4 * hidden), own.d_bias_hh = row(d_bias_hh, k, 4 * hidden);
        char *own_scratch = static_cast<char *>(scratch.get()) + k * bytes;
        if (!fused)
            return engine->backward(own, begin, end, own_scratch);
        WeightGradients own_w = w;
        const int64_t columns = blocks(f.cell) * hidden;
        own_w.d_weight_ih = row(d_weight_ih, k, columns * input),
        own_w.d_weight_hh = row(d_weight_hh, k, columns * f.h_size);
        own_w.d_weight_hr = row(d_weight_hr, k, f.h_size * hidden), own_w.d_weight_ch = row(d_weight_ch, k, 3 * hidden);
        own_w.d_bias_ih = row(d_bias_ih, k, columns), own_w.d_bias_hh = row(d_bias_hh, k, columns);
        engine->fused_backward(own, x ? &own_w : nullptr, begin, end, own_scratch);
    });
}

// The recurrence of a cell whose gates do not read the state: forward without d_output, else backward.
void scan(int cell, bool reverse, bool time_first, int64_t batch, int64_t steps, int64_t hidden, int threads,
          uintptr_t x_part, uintptr_t h_0, uintptr_t lengths, uintptr_t border, uintptr_t output, uintptr_t h_n,
          uintptr_t gates, uintptr_t d_output, uintptr_t d_h_n, uintptr_t d_x_part, uintptr_t d_h_0) {
    Scan s{};
    s.cell = Cell(cell), s.reverse = reverse, s.batch = batch, s.steps = steps, s.hidden = hidden;
    s.row_stride = time_first ? 1 : steps, s.step_stride = time_first ? batch : 1;
    s.x_part = pointer<float>(x_part), s.h_0 = pointer<float>(h_0);
    s.lengths = pointer<int64_t>(lengths), s.border = pointer<uint8_t>(border);
    s.output = pointer<float>(output), s.h_n = pointer<float>(h_n), s.gates = pointer<float>(gates);
    s.d_output = pointer<float>(d_output), s.d_h_n = pointer<float>(d_h_n);
    s.d_x_part = pointer<float>(d_x_part), s.d_h_0 = pointer<float>(d_h_0);
    nb::gil_scoped_release release;
    const Engine *engine = current;
    over_threads(batch, threads, [&](int, int64_t begin, int64_t end) {
        (d_output ? engine->scan_backward : engine->scan_forward)(s, begin, end);
    });
}

} // namespace

void define_passes(nb::module_ &m) {
    m.def("forward", &forward, nb::kw_only(), "cell"_a, "reverse"_a, "time_first"_a, "batch"_a, "steps"_a, "hidden"_a,
          "threads"_a, "packed_hh"_a.none(), "packed_ih"_a.none(), "weight_hr"_a.none(), "gain_ih"_a, "input"_a, "x"_a,
          "weight_ih"_a, "bias"_a, "weight_hh"_a, "weight_ch"_a, "bias_hh"_a, "gain_hh"_a, "gain_c"_a, "bias_c"_a,
          "x_part"_a, "h_0"_a, "c_0"_a, "lengths"_a, "border"_a, "mask_h"_a, "mask_c"_a, "zone_h"_a, "zone_c"_a,
          "output"_a, "h_n"_a, "c_n"_a, "gates"_a, "cells"_a, "normalised"_a, "rstd"_a);
    m.def("backward", &backward, nb::kw_only(), "cell"_a, "reverse"_a, "time_first"_a, "batch"_a, "steps"_a, "hidden"_a,
          "threads"_a, "weight_hh_t"_a, "weight_ch"_a, "bias_hh"_a, "gain_hh"_a, "gain_c"_a, "bias_c"_a, "h_0"_a,
          "c_0"_a, "lengths"_a, "border"_a, "mask_h"_a, "mask_c"_a, "zone_h"_a, "zone_c"_a, "output"_a, "gates"_a,
          "cells"_a, "normalised"_a, "rstd"_a, "d_output"_a, "d_h_n"_a, "d_c_n"_a, "d_x_part"_a, "d_h_part"_a,
          "d_h_0"_a, "d_c_0"_a, "d_gain_c"_a, "d_bias_c"_a, "d_gain_hh"_a, "d_bias_hh"_a, "input"_a, "x"_a,
          "weight_ih_t"_a.none(), "weight_hr_t"_a.none(), "d_x"_a, "d_weight_ih"_a, "d_weight_hh"_a, "d_bias_ih"_a,
          "d_weight_hr"_a, "d_weight_ch"_a);
    m.def("scan", &scan, nb::kw_only(), "cell"_a, "reverse"_a, "time_first"_a, "batch"_a, "steps"_a, "hidden"_a,
          "threads"_a, "x_part"_a, "h_0"_a, "lengths"_a, "border"_a, "output"_a, "h_n"_a, "gates"_a, "d_output"_a,
          "d_h_n"_a, "d_x_part"_a, "d_h_0"_a);
}

} // namespace memorycell
