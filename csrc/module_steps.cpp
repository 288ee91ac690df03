// Single steps of live sessions: layers prepared for steps, and stacks of them.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "module_arrays.hpp"
#include "threads.hpp"

using namespace nanobind::literals;

namespace memorycell {

namespace {

Extras extras_of(const std::vector<uintptr_t> &p) {
    Extras e;
    e.peephole = pointer<float>(p.at(0)), e.bias_hh = pointer<float>(p.at(1)), e.gain_hh = pointer<float>(p.at(2));
    e.gain_c = pointer<float>(p.at(3)), e.bias_c = pointer<float>(p.at(4));
    return e;
}

std::string out_of_range(const char *name, int64_t value, int64_t count) {
    return std::string(name) + ": expected 0.." + std::to_string(count - 1) + ", got " + std::to_string(value);
}

// One layer prepared for steps: everything that does not change between calls. Python owns the memory.
class Layer {
  public:
    Layer(int cell, nb::object weight_ih, nb::object weight_hh, const std::vector<uintptr_t> &extras, uintptr_t bias,
          uintptr_t gain_ih, float zone_h, float zone_c, int64_t h_at, int64_t c_at, int64_t part_stride)
        : h_at(h_at), c_at(c_at), weight_ih_(std::move(weight_ih)), weight_hh_(std::move(weight_hh)) {
        const Weight &ih = nb::cast<const Weight &>(weight_ih_);
        engine = ih.engine;
        step.cell = Cell(cell), step.input = ih.packed.columns, step.hidden = ih.packed.rows / blocks(step.cell);
        step.weight_ih = &ih.packed, step.extras = extras_of(extras);
        if (weight_hh_.is_none() == recurrent(step.cell))
            throw std::invalid_argument("weight_hh: expected a matrix, or None for a cell that reads none");
        if (recurrent(step.cell)) {
            const Weight &hh = nb::cast<const Weight &>(weight_hh_);
            if (hh.engine != engine)
                throw std::invalid_argument("weights: packed for different instruction sets");
            step.weight_hh = &hh.packed;
        }
        step.part_stride = part_stride;
        step.bias = pointer<float>(bias), step.gain_ih = pointer<float>(gain_ih);
        step.zone_h = zone_h, step.zone_c = zone_c;
    }
    const Engine *engine;
    Step step{};
    int64_t h_at, c_at; // the positions of h and c in the row of a session; c_at < 0 without a cell state

  private:
    nb::object weight_ih_, weight_hh_;
};

// Stacked layers prepared to step sessions. A session's state is one row of `width` floats.
class Stack {
  public:
    Stack(nb::list layers, int64_t width) : layers_(layers), width_(width) {
        for (nb::handle layer : layers)
            stack_.push_back(&nb::cast<Layer &>(layer));
        widest_ = 0;
        for (const Layer *layer : stack_)
            widest_ = std::max(widest_, layer->step.hidden);
        single_ = scratch_bytes(1);
    }

    // One session, x [T, I] -> y [T, H], step by step. Its states are in a ring of rows [R, width]: each step reads a
    // row and writes the next, or the same one if there is only one. Returns the row of the last step.
    int64_t walk(nb::handle ring, int64_t row, nb::handle x, nb::handle y) const { return run(ring, row, x, y, false); }

    // The same; -1 - t for the first step t whose input or new state is NaN or infinite. The state in `row` is then
    // unchanged, and so is the complete ring if it is an input.
    int64_t walk_finite(nb::handle ring, int64_t row, nb::handle x, nb::handle y) const {
        return run(ring, row, x, y, true);
    }

    // Sessions in the given rows of a block [capacity, width], each at most once: x [n, I] -> y [n, H]. Thread-safe for
    // different rows.
    void many(nb::handle block_object, nb::handle rows_object, nb::handle x_object, nb::handle y_object,
              int threads) const {
        const Array block(block_object, "states", 'f', true), rows(rows_object, "rows", 'l'), x(x_object, "x", 'f'),
            y(y_object, "y", 'f', true);
        const int64_t capacity = block.size() / width_, count = rows.size();
        const int64_t input = stack_.front()->step.input, output = stack_.back()->step.hidden;
        expect(x.size() == count * input, "x", count * input, x.size());
        expect(y.size() == count * output, "y", count * output, y.size());
        check_rows(rows.as<int64_t>(), count, capacity);
        nb::gil_scoped_release release;
        over_threads(count, threads, [&](int, int64_t begin, int64_t end) {
            char *scratch = own_scratch(scratch_bytes(PIECE));
            for (int64_t k = begin; k < end; k += PIECE)
                step(block.as<float>(), rows.as<int64_t>() + k, std::min(PIECE, end - k), x.as<float>() + k * input,
                     y.as<float>() + k * output, scratch, false);
        });
    }

  private:
    static constexpr int64_t PIECE = 96; // sessions that run through all layers together

    int64_t run(nb::handle ring_object, int64_t row, nb::handle x_object, nb::handle y_object, bool check) const {
        const Array ring(ring_object, "states", 'f', true), x(x_object, "x", 'f'), y(y_object, "y", 'f', true);
        const int64_t rows = ring.size() / width_, input = stack_.front()->step.input;
        const int64_t output = stack_.back()->step.hidden, steps = x.size() / input;
        expect(x.size() == steps * input, "x", (steps + 1) * input, x.size());
        expect(y.size() == steps * output, "y", steps * output, y.size());
        if (row < 0 || row >= rows)
            throw std::invalid_argument(out_of_range("row", row, rows));
        const size_t row_bytes = width_ * sizeof(float);
        char *scratch = own_scratch(single_ + row_bytes), *saved = scratch + single_;
        std::optional<nb::gil_scoped_release> release;
        if (steps > 1)
            release.emplace();
        const Engine *engine = stack_.front()->engine;
        if (check && !engine->all_finite(x.as<float>(), x.size()))
            for (int64_t t = 0; t < steps; t++)
                if (!engine->all_finite(x.as<float>() + t * input, input))
                    return -1 - t;
        float *start = ring.as<float>() + row * width_;
        if (check)
            std::memcpy(saved, start, row_bytes);
        for (int64_t t = 0; t < steps; t++) {
            const int64_t next = row + 1 == rows ? 0 : row + 1;
            float *from = ring.as<float>() + row * width_, *to = ring.as<float>() + next * width_;
            if (next != row)
                std::memcpy(to, from, row_bytes);
            if (!step(to, nullptr, 1, x.as<float>() + t * input, y.as<float>() + t * output, scratch, check)) {
                std::memcpy(start, saved, row_bytes);
                return -1 - t;
            }
            row = next;
        }
        return row;
    }

    // Returns whether the new states are finite, true if that is not checked.
    bool step(float *states, const int64_t *rows, int64_t count, const float *x, float *y, char *scratch,
              bool check) const {
        bool finite = true;
        float *between = reinterpret_cast<float *>(scratch), *spare = between + PIECE * widest_;
        char *rest = scratch + hidden_bytes();
        for (const Layer *layer : stack_) {
            Step s = layer->step;
            s.count = count, s.slots = rows, s.stride = width_, s.x = x, s.scratch = rest;
            s.h = states + layer->h_at, s.c = layer->c_at < 0 ? nullptr : states + layer->c_at;
            s.y = layer == stack_.back() ? y : between;
            s.check = check;
            finite &= layer->engine->step(s);
            x = between;
            std::swap(between, spare);
        }
        return finite;
    }
    size_t hidden_bytes() const { return (2 * PIECE * widest_ * sizeof(float) + 63) / 64 * 64; }
    size_t scratch_bytes(int64_t count) const {
        size_t most = 0;
        for (const Layer *layer : stack_) {
            Step s = layer->step;
            s.count = count;
            most = std::max(most, layer->engine->step_scratch(s));
        }
        return hidden_bytes() + most;
    }
    // One per thread, kept between calls.
    static char *own_scratch(size_t bytes) {
        thread_local Block own;
        thread_local size_t size = 0;
        if (size < bytes)
            own = Block(size = bytes);
        return static_cast<char *>(own.get());
    }
    static void check_rows(const int64_t *rows, int64_t count, int64_t capacity) {
        thread_local std::vector<bool> seen;
        if (int64_t(seen.size()) < capacity)
            seen.resize(capacity);
        int64_t k = 0;
        std::string wrong;
        for (; k < count && wrong.empty(); k++) {
            if (rows[k] < 0 || rows[k] >= capacity)
                wrong = out_of_range("rows", rows[k], capacity);
            else if (seen[rows[k]])
                wrong = "rows: " + std::to_string(rows[k]) + " twice";
            else
                seen[rows[k]] = true;
        }
        for (int64_t j = 0; j < (wrong.empty() ? k : k - 1); j++)
            seen[rows[j]] = false;
        if (!wrong.empty())
            throw std::invalid_argument(wrong);
    }

    nb::list layers_;
    std::vector<const Layer *> stack_;
    int64_t width_, widest_;
    size_t single_;
};

} // namespace

void define_steps(nb::module_ &m) {
    nb::class_<Layer>(m, "Layer", "A layer ready to step.")
        .def(nb::init<int, nb::object, nb::object, const std::vector<uintptr_t> &, uintptr_t, uintptr_t, float, float,
                      int64_t, int64_t, int64_t>(),
             "cell"_a, "weight_ih"_a, "weight_hh"_a.none(), "extras"_a, "bias"_a, "gain_ih"_a, "zone_h"_a, "zone_c"_a,
             "h_at"_a, "c_at"_a, "part_stride"_a = 0);
    nb::class_<Stack>(m, "Stack", "Layers above each other, ready to step.")
        .def(nb::init<nb::list, int64_t>())
        .def("walk", &Stack::walk)
        .def("walk_finite", &Stack::walk_finite)
        .def("many", &Stack::many);
}

} // namespace memorycell
