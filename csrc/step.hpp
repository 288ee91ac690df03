// One step of one or many sessions. Nothing is allocated and nothing is packed: the weights are read once.
#pragma once

#include "recurrence.hpp"

namespace memorycell::MEMORYCELL_ISA {

struct StepBuffers {
    ForwardBuffers forward;
    float *x_part;
    void *scratch_x;
};

inline StepBuffers step_buffers(Arena &a, const Step &s) {
    StepBuffers b;
    b.forward = forward_buffers(a, s.weight_hh, s.cell, s.hidden, s.count);
    b.x_part = a.floats(s.count * blocks(s.cell) * s.hidden);
    b.scratch_x = a.bytes(product_scratch(*s.weight_ih, s.count));
    return b;
}

// Returns whether every new state is finite, true if that is not checked.
template <Cell C> inline bool step_cell(const Step &s) {
    bool finite = true;
    const int64_t H = s.hidden, GH = blocks(C) * H, S = cell_parts(C);
    Arena arena{static_cast<uint8_t *>(s.scratch)};
    const StepBuffers buffer = step_buffers(arena, s);
    auto slot = [&](int64_t k) { return s.slots ? s.slots[k] : k; };
    const float *h = s.h + slot(0) * s.stride;
    if (s.count > 1) {
        for (int64_t k = 0; k < s.count; k++)
            copy(buffer.forward.h + k * H, s.h + slot(k) * s.stride, H);
        h = buffer.forward.h;
    }
    const float *bias = C == Cell::layernorm ? nullptr : s.bias; // layernorm adds it after the normalisation
    product(*s.weight_ih, s.x, s.input, s.count, buffer.x_part, GH, buffer.scratch_x, bias);
    if constexpr (recurrent(C))
        product(*s.weight_hh, h, H, s.count, buffer.forward.product, GH, buffer.forward.scratch);
    for (int64_t k = 0; k < s.count; k++) {
        const int64_t at = slot(k) * s.stride;
        float *x = buffer.x_part + k * GH, *h_now = s.h + at, *c_now = s.c ? s.c + at : nullptr;
        if constexpr (C == Cell::layernorm)
            normalise_input(x, s.gain_ih, s.bias, GH);
        const ForwardBuffers &f = buffer.forward;
        const float *c_prev = c_now;
        if constexpr (S > 1) { // the parts are apart in a session's row
            for (int64_t part = 0; part < S; part++)
                copy(f.c + part * H, c_now + part * s.part_stride, H);
            c_prev = f.c;
        }
        forward_row<C>({H, x, h_now, c_prev, f.product + k * GH, f.gates, f.c_new, f.h_new, nullptr, s.extras});
        if (s.zone_h > 0)
            zone(f.h_new, h_now, nullptr, s.zone_h, H);
        copy(h_now, f.h_new, H);
        copy(s.y + k * H, f.h_new, H);
        if (has_cell_state(C)) {
            if (s.zone_c > 0)
                zone(f.c_new, c_now, nullptr, s.zone_c, H);
            for (int64_t part = 0; part < S; part++)
                copy(c_now + part * s.part_stride, f.c_new + part * H, H);
        }
        if (s.check)
            finite &= all_finite(f.h_new, H) && (!has_cell_state(C) || all_finite(f.c_new, S * H));
    }
    return finite;
}

} // namespace memorycell::MEMORYCELL_ISA
