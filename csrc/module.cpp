// The Python interface: selects the instruction set, validates arguments, and splits rows over threads.
// Tensors arrive as addresses (tensor.data_ptr()); src/memorycell/ops/binding.py checks types, shapes and layouts.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu.hpp"
#include "engine.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace memorycell;
using namespace nb::literals;

namespace {

// Memory aligned to a cache line.
class Block {
  public:
    explicit Block(size_t bytes = 0) : pointer_(bytes ? ::operator new(bytes, std::align_val_t(64)) : nullptr) {}
    Block(Block &&other) noexcept : pointer_(std::exchange(other.pointer_, nullptr)) {}
    Block &operator=(Block &&other) noexcept {
        std::swap(pointer_, other.pointer_);
        return *this;
    }
    ~Block() { ::operator delete(pointer_, std::align_val_t(64)); }
    void *get() const { return pointer_; }

  private:
    void *pointer_;
};

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

const Engine *current = nullptr;

template <class T> T *pointer(uintptr_t address) { return reinterpret_cast<T *>(address); }

// A packed matrix with its memory, and the engine that defines its layout.
struct Weight {
    const Engine *engine = current;
    Packed packed;
    Block data, scale, sum;

    // `plain`: the matrix is not packed and must not be moved or freed while this is used.
    Weight(uintptr_t address, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride, int precision,
           bool plain) {
        if (rows < 1 || columns < 1 || rows > (int64_t(1) << 40) / columns)
            throw std::invalid_argument("weight: the size " + std::to_string(rows) + " x " + std::to_string(columns) +
                                        " is out of range");
        packed.rows = rows, packed.columns = columns, packed.precision = Precision(precision);
        if (plain) {
            if (packed.precision != Precision::float32 || column_stride != 1 || row_stride != columns)
                throw std::invalid_argument("weight: only a contiguous float32 matrix can be used unpacked");
            packed.plain = pointer<float>(address);
            return;
        }
        data = Block(engine->packed_bytes(rows, columns, packed.precision));
        packed.data = data.get();
        if (packed.precision == Precision::int8) {
            const int64_t padded = (rows + 63) / 64 * 64; // to full panels of the widest instruction set
            scale = Block(padded * sizeof(float)), sum = Block(padded * sizeof(int32_t));
            packed.scale = static_cast<float *>(scale.get()), packed.sum = static_cast<int32_t *>(sum.get());
        }
        nb::gil_scoped_release release;
        engine->pack(pointer<float>(address), row_stride, column_stride, packed);
    }
};

Extras extras_of(const std::vector<uintptr_t> &p) {
    Extras e;
    e.peephole = pointer<float>(p.at(0)), e.bias_hh = pointer<float>(p.at(1)), e.gain_hh = pointer<float>(p.at(2));
    e.gain_c = pointer<float>(p.at(3)), e.bias_c = pointer<float>(p.at(4));
    return e;
}

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

void expect(bool right, const char *name, int64_t wanted, int64_t got) {
    if (!right)
        throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(wanted) + " values, got " +
                                    std::to_string(got));
}

// y [n, N] = x [n, K] W^T + bias [N], on this thread.
void times(const Weight &weight, nb::handle x_object, nb::handle bias_object, nb::handle y_object) {
    const Array x(x_object, "x", 'f'), bias(bias_object, "bias", 'f'), y(y_object, "y", 'f', true);
    const int64_t rows = x.size() / weight.packed.columns;
    expect(x.size() == rows * weight.packed.columns, "x", (rows + 1) * weight.packed.columns, x.size());
    expect(bias.size() == weight.packed.rows, "bias", weight.packed.rows, bias.size());
    expect(y.size() == rows * weight.packed.rows, "y", rows * weight.packed.rows, y.size());
    Block scratch(weight.engine->product_scratch(weight.packed, rows));
    weight.engine->product(weight.packed, x.as<float>(), rows, bias.as<float>(), y.as<float>(), scratch.get());
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

void product(const Weight &weight, uintptr_t a, int64_t rows, uintptr_t bias, uintptr_t c, int threads) {
    const int64_t K = weight.packed.columns, N = weight.packed.rows;
    nb::gil_scoped_release release;
    const size_t bytes = weight.engine->product_scratch(weight.packed, (rows + threads - 1) / threads);
    Block scratch(bytes * threads);
    over_threads(rows, threads, [&](int k, int64_t begin, int64_t end) {
        weight.engine->product(weight.packed, pointer<float>(a) + begin * K, end - begin, pointer<float>(bias),
                               pointer<float>(c) + begin * N, static_cast<char *>(scratch.get()) + k * bytes);
    });
}

void outer(uintptr_t left, uintptr_t right, int64_t M, int64_t N, int64_t K, int precision, uintptr_t c, uintptr_t sums,
           int threads) {
    const Engine *engine = current;
    nb::gil_scoped_release release;
    const size_t bytes = engine->outer_scratch(K);
    Block scratch(bytes * threads);
    over_threads(N, threads, [&](int k, int64_t begin, int64_t end) {
        engine->outer(pointer<float>(left), pointer<float>(right), M, N, K, Precision(precision), begin, end,
                      pointer<float>(c), pointer<float>(sums), static_cast<char *>(scratch.get()) + k * bytes);
    });
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
    nb::class_<Weight>(m, "Weight", "A matrix packed for products.")
        .def(nb::init<uintptr_t, int64_t, int64_t, int64_t, int64_t, int, bool>(), nb::arg("address"), nb::arg("rows"),
             nb::arg("columns"), nb::arg("row_stride"), nb::arg("column_stride"), nb::arg("precision"),
             nb::arg("plain") = false)
        .def_prop_ro("rows", [](const Weight &w) { return w.packed.rows; })
        .def_prop_ro("columns", [](const Weight &w) { return w.packed.columns; })
        .def("times", &times)
        .def_prop_ro("bytes", [](const Weight &w) {
            return w.engine->packed_bytes(w.packed.rows, w.packed.columns, w.packed.precision);
        });
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
    m.def(
        "cells", [] { return std::vector<std::string>(std::begin(cell_names), std::end(cell_names)); },
        "The cells it has; a cell is passed to the other functions as its number in this list.");
    m.def("expect_much", &expect_much);
    m.def("share_team", &share_team, "parallel"_a, "thread_number"_a, "team_size"_a,
          "Run on the threads of a loaded GNU OpenMP: the addresses of GOMP_parallel, omp_get_thread_num and "
          "omp_get_num_threads.");
    m.def("product", &product);
    m.def("outer", &outer);
    m.def("map", [](int function, uintptr_t in, uintptr_t out, int64_t count) {
        current->map(Function(function), pointer<float>(in), pointer<float>(out), count);
    });
    m.def("read",
          [](uintptr_t p, int64_t count, int64_t repeats) { return current->read(pointer<float>(p), count, repeats); });
    m.def("multiply_add", [](int precision, int64_t n) { return current->multiply_add(Precision(precision), n); });
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
