// Cells whose gates do not read the state: the recurrence alone, elementwise, over the products of the input.
#pragma once

#include "recurrence.hpp"

namespace memorycell::MEMORYCELL_ISA {

// Calls body(t, at, h_prev) for the valid steps of a row in the order of the recurrence or, `backwards`, against it;
// padding(at) for the others. h_prev: h of the step before in the order of the recurrence, or null for zeros.
template <class Body, class Padding>
inline void over_steps(const Scan &s, int64_t row, bool backwards, Body body, Padding padding) {
    const int64_t T = s.steps, H = s.hidden, length = s.lengths ? s.lengths[row] : T;
    for (int64_t k = 0; k < T; k++) {
        const int64_t t = s.reverse == backwards ? k : T - 1 - k, before = s.reverse ? t + 1 : t - 1;
        const int64_t at = row * s.row_stride + t * s.step_stride;
        if (t >= length) {
            padding(at);
            continue;
        }
        const bool border = s.border && s.border[row * T + t], at_start = before < 0 || before >= length;
        body(at, border     ? nullptr
                 : at_start ? s.h_0 + row * H
                            : s.output + (row * s.row_stride + before * s.step_stride) * H);
    }
}

template <Cell C> inline void scan_forward_cell(const Scan &s, int64_t begin, int64_t end) {
    constexpr int G = blocks(C);
    const int64_t H = s.hidden;
    for (int64_t row = begin; row < end; row++) {
        int64_t last = 0;
        over_steps(
            s, row, false,
            [&](int64_t at, const float *h_prev) {
                const float *x = s.x_part + at * G * H;
                for_lanes(H, [&](int64_t u, auto lanes) {
                    F pre[G];
                    for (int g = 0; g < G; g++)
                        pre[g] = lanes.load(x + g * H + u);
                    auto none = [](int) { return F{}; };
                    const F before = h_prev ? lanes.load(h_prev + u) : F{};
                    const Units now = units_after<C>(pre, F{}, F{}, before, F{}, none, none);
                    lanes.store(s.output + at * H + u, now.h);
                    if (s.gates)
                        for (int k = 0; k < kept(C); k++)
                            lanes.store(s.gates + (at * kept(C) + k) * H + u, now.kept[k]);
                });
                last = at;
            },
            [&](int64_t at) {
                zero(s.output + at * H, H);
                if (s.gates)
                    zero(s.gates + at * kept(C) * H, kept(C) * H);
            });
        copy(s.h_n + row * H, s.output + last * H, H);
    }
}

// The gates are computed again: that costs less than reading them from memory.
template <Cell C> inline void scan_backward_cell(const Scan &s, int64_t begin, int64_t end) {
    constexpr int G = blocks(C);
    const int64_t H = s.hidden;
    for (int64_t row = begin; row < end; row++) {
        float *dh_next = s.d_h_0 + row * H;
        copy(dh_next, s.d_h_n + row * H, H);
        over_steps(
            s, row, true,
            [&](int64_t at, const float *h_prev) {
                const float *x = s.x_part + at * G * H;
                float *dx = s.d_x_part + at * G * H;
                for_lanes(H, [&](int64_t u, auto lanes) {
                    auto in = [&](int g) { return lanes.load(x + g * H + u); };
                    auto out = [&](int g, F v) { lanes.store(dx + g * H + u, v); };
                    const F before = h_prev ? lanes.load(h_prev + u) : F{};
                    const F dh = lanes.load(dh_next + u) + lanes.load(s.d_output + at * H + u);
                    const F a = in(G - 1), value = positive(a), slope = a < 0.0f ? value * (1.0f - value) : splat(1.0f);
                    F share, left; // of the new value and of h_{t-1}
                    if constexpr (C == Cell::minlstm) {
                        const F ratio = log_sigmoid(in(1)) - log_sigmoid(in(0));
                        share = sigmoid(-ratio), left = sigmoid(ratio);
                        const F d_ratio = dh * (before - value) * left * share;
                        out(0, -d_ratio * sigmoid(-in(0))), out(1, d_ratio * sigmoid(-in(1)));
                    } else {
                        share = sigmoid(in(0)), left = sigmoid(-in(0));
                        out(0, dh * (value - before) * share * left);
                    }
                    out(G - 1, dh * share * slope);
                    lanes.store(dh_next + u, h_prev ? dh * left : F{}); // no gradient crosses a reset
                });
            },
            [&](int64_t at) { zero(s.d_x_part + at * G * H, G * H); });
    }
}

} // namespace memorycell::MEMORYCELL_ISA
