// The only file that knows Python: it picks the instruction set, checks what it can, and splits rows over threads.
// Tensors arrive as addresses (tensor.data_ptr()); src/memorycell/ops/native.py checks types, shapes and layouts.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu.hpp"
#include "engine.hpp"

namespace nb = nanobind;
using namespace memorycell;

namespace {

// Memory that begins on a cache line.
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

// A packed matrix that owns its memory, and the engine whose layout it has.
struct Weight {
    const Engine *engine = current;
    Packed packed;
    Block data, scale, sum;

    Weight(uintptr_t address, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride, int precision) {
        if (rows < 1 || columns < 1 || rows > (int64_t(1) << 40) / columns)
            throw std::invalid_argument("weight: the size " + std::to_string(rows) + " x " + std::to_string(columns) +
                                        " is out of range");
        packed.rows = rows, packed.columns = columns, packed.precision = Precision(precision);
        data = Block(engine->packed_bytes(rows, columns, packed.precision));
        packed.data = data.get();
        if (packed.precision == Precision::int8) {
            const int64_t padded = (rows + 63) / 64 * 64; // to whole panels of the widest instruction set
            scale = Block(padded * sizeof(float)), sum = Block(padded * sizeof(int32_t));
            packed.scale = static_cast<float *>(scale.get()), packed.sum = static_cast<int32_t *>(sum.get());
        }
        nb::gil_scoped_release release;
        engine->pack(pointer<float>(address), row_stride, column_stride, packed);
    }
};

// Splits rows over threads; work(k, begin, end) must not throw.
template <class Work> void over_threads(int64_t rows, int threads, Work work) {
    if (threads > rows)
        threads = int(rows);
    std::vector<std::thread> others;
    for (int k = 1; k < threads; k++)
        others.emplace_back([=] { work(k, rows * k / threads, rows * (k + 1) / threads); });
    work(0, int64_t(0), threads > 0 ? rows / threads : rows);
    for (std::thread &thread : others)
        thread.join();
}

Extras extras_of(const std::vector<uintptr_t> &p) {
    Extras e;
    e.peephole = pointer<float>(p.at(0)), e.bias_hh = pointer<float>(p.at(1)), e.gain_hh = pointer<float>(p.at(2));
    e.gain_c = pointer<float>(p.at(3)), e.bias_c = pointer<float>(p.at(4));
    return e;
}

void forward(int cell, bool reverse, int64_t batch, int64_t steps, int64_t hidden, int threads, const Weight &weight,
             const std::vector<uintptr_t> &extras, const std::vector<uintptr_t> &p, float zone_h, float zone_c) {
    Forward f{};
    f.cell = Cell(cell), f.reverse = reverse, f.batch = batch, f.steps = steps, f.hidden = hidden;
    f.weight = &weight.packed, f.extras = extras_of(extras), f.zone_h = zone_h, f.zone_c = zone_c;
    f.x_part = pointer<float>(p.at(0)), f.h_0 = pointer<float>(p.at(1)), f.c_0 = pointer<float>(p.at(2));
    f.lengths = pointer<int64_t>(p.at(3)), f.border = pointer<uint8_t>(p.at(4));
    f.mask_h = pointer<float>(p.at(5)), f.mask_c = pointer<float>(p.at(6));
    f.output = pointer<float>(p.at(7)), f.h_n = pointer<float>(p.at(8)), f.c_n = pointer<float>(p.at(9));
    f.gates = pointer<float>(p.at(10)), f.cells = pointer<float>(p.at(11));
    f.normalised = pointer<float>(p.at(12)), f.rstd = pointer<float>(p.at(13));
    nb::gil_scoped_release release;
    const size_t bytes = weight.engine->forward_scratch(f, (batch + threads - 1) / threads);
    Block scratch(bytes * threads);
    over_threads(batch, threads, [&](int k, int64_t begin, int64_t end) {
        weight.engine->forward(f, begin, end, static_cast<char *>(scratch.get()) + k * bytes);
    });
}

void backward(int cell, bool reverse, int64_t batch, int64_t steps, int64_t hidden, int threads, const Weight &weight_t,
              const std::vector<uintptr_t> &extras, const std::vector<uintptr_t> &p, float zone_h, float zone_c) {
    Backward f{};
    f.cell = Cell(cell), f.reverse = reverse, f.batch = batch, f.steps = steps, f.hidden = hidden;
    f.weight_t = &weight_t.packed, f.extras = extras_of(extras), f.zone_h = zone_h, f.zone_c = zone_c;
    f.h_0 = pointer<float>(p.at(0)), f.c_0 = pointer<float>(p.at(1)), f.output = pointer<float>(p.at(2));
    f.gates = pointer<float>(p.at(3)), f.cells = pointer<float>(p.at(4));
    f.normalised = pointer<float>(p.at(5)), f.rstd = pointer<float>(p.at(6));
    f.lengths = pointer<int64_t>(p.at(7)), f.border = pointer<uint8_t>(p.at(8));
    f.mask_h = pointer<float>(p.at(9)), f.mask_c = pointer<float>(p.at(10));
    f.d_output = pointer<float>(p.at(11)), f.d_h_n = pointer<float>(p.at(12)), f.d_c_n = pointer<float>(p.at(13));
    f.d_x_part = pointer<float>(p.at(14)), f.d_h_part = pointer<float>(p.at(15));
    f.d_h_0 = pointer<float>(p.at(16)), f.d_c_0 = pointer<float>(p.at(17));
    float *d_gain_c = pointer<float>(p.at(18)), *d_bias_c = pointer<float>(p.at(19));   // [threads, H]
    float *d_gain_hh = pointer<float>(p.at(20)), *d_bias_hh = pointer<float>(p.at(21)); // [threads, 4 * H]
    nb::gil_scoped_release release;
    const size_t bytes = weight_t.engine->backward_scratch(f, (batch + threads - 1) / threads);
    Block scratch(bytes * threads);
    over_threads(batch, threads, [&](int k, int64_t begin, int64_t end) {
        Backward own = f;
        own.d_gain_c = d_gain_c ? d_gain_c + k * hidden : nullptr;
        own.d_bias_c = d_bias_c ? d_bias_c + k * hidden : nullptr;
        own.d_gain_hh = d_gain_hh ? d_gain_hh + k * 4 * hidden : nullptr;
        own.d_bias_hh = d_bias_hh ? d_bias_hh + k * 4 * hidden : nullptr;
        weight_t.engine->backward(own, begin, end, static_cast<char *>(scratch.get()) + k * bytes);
    });
}

// A layer ready to step: everything that does not change from call to call.
class Stepper {
  public:
    Stepper(int cell, int64_t input, int64_t hidden, int64_t capacity, nb::object weight_ih, nb::object weight_hh,
            const std::vector<uintptr_t> &extras, uintptr_t bias, uintptr_t gain_ih, float zone_h, float zone_c,
            uintptr_t h, uintptr_t c, int64_t largest)
        : weight_ih_(std::move(weight_ih)), weight_hh_(std::move(weight_hh)), capacity_(capacity), largest_(largest) {
        const Weight &ih = nb::cast<const Weight &>(weight_ih_), &hh = nb::cast<const Weight &>(weight_hh_);
        engine_ = hh.engine;
        if (ih.engine != engine_)
            throw std::invalid_argument("weights: packed for different instruction sets");
        step_.cell = Cell(cell), step_.count = largest, step_.input = input, step_.hidden = hidden;
        step_.weight_ih = &ih.packed, step_.weight_hh = &hh.packed, step_.extras = extras_of(extras);
        step_.bias = pointer<float>(bias), step_.gain_ih = pointer<float>(gain_ih);
        step_.zone_h = zone_h, step_.zone_c = zone_c;
        step_.h = pointer<float>(h), step_.c = pointer<float>(c);
        bytes_ = engine_->step_scratch(step_);
        scratch_ = Block(bytes_);
    }

    // One row, slot 0.
    void one(uintptr_t x, uintptr_t y) {
        Step s = step_;
        s.count = 1, s.slots = nullptr;
        s.x = pointer<float>(x), s.y = pointer<float>(y), s.scratch = scratch_.get();
        engine_->step(s);
    }

    // `count` rows at the given slots (each at most once). May be called from several threads for different slots.
    void many(int64_t count, uintptr_t slots, uintptr_t x, uintptr_t y) {
        if (count < 1 || count > largest_)
            throw std::out_of_range("count: expected 1.." + std::to_string(largest_) + ", got " +
                                    std::to_string(count));
        for (int64_t k = 0; k < count; k++) {
            const int64_t slot = slots ? pointer<int64_t>(slots)[k] : k;
            if (slot < 0 || slot >= capacity_)
                throw std::out_of_range("slots: expected 0.." + std::to_string(capacity_ - 1) + ", got " +
                                        std::to_string(slot));
        }
        Step s = step_;
        s.count = count, s.slots = pointer<int64_t>(slots);
        s.x = pointer<float>(x), s.y = pointer<float>(y);
        nb::gil_scoped_release release;
        // The shared scratch is for `one`, which holds the GIL; every thread keeps one of its own for calls like this.
        thread_local Block own;
        thread_local size_t size = 0;
        if (size < bytes_)
            own = Block(size = bytes_);
        s.scratch = own.get();
        engine_->step(s);
    }

  private:
    nb::object weight_ih_, weight_hh_;
    const Engine *engine_;
    Step step_{};
    int64_t capacity_, largest_;
    size_t bytes_ = 0;
    Block scratch_;
};

// New memory of tens of megabytes costs more to be mapped page by page than to be written: ask for huge pages.
void expect_much(uintptr_t address, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t huge = uintptr_t(1) << 21;
    const uintptr_t begin = (address + huge - 1) / huge * huge, end = (address + bytes) / huge * huge;
    if (begin < end)
        madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE); // a wish: it may be refused
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
        .def(nb::init<uintptr_t, int64_t, int64_t, int64_t, int64_t, int>(), nb::arg("address"), nb::arg("rows"),
             nb::arg("columns"), nb::arg("row_stride"), nb::arg("column_stride"), nb::arg("precision"))
        .def_prop_ro("rows", [](const Weight &w) { return w.packed.rows; })
        .def_prop_ro("columns", [](const Weight &w) { return w.packed.columns; })
        .def_prop_ro("bytes", [](const Weight &w) {
            return w.engine->packed_bytes(w.packed.rows, w.packed.columns, w.packed.precision);
        });
    m.def("forward", &forward);
    m.def("backward", &backward);
    m.def("expect_much", &expect_much);
    m.def("product", &product);
    m.def("outer", &outer);
    m.def("map", [](int function, uintptr_t in, uintptr_t out, int64_t count) {
        current->map(Function(function), pointer<float>(in), pointer<float>(out), count);
    });
    m.def("read",
          [](uintptr_t p, int64_t count, int64_t repeats) { return current->read(pointer<float>(p), count, repeats); });
    m.def("multiply_add", [](int precision, int64_t n) { return current->multiply_add(Precision(precision), n); });
    nb::class_<Stepper>(m, "Stepper", "A layer ready to step.")
        .def(nb::init<int, int64_t, int64_t, int64_t, nb::object, nb::object, const std::vector<uintptr_t> &, uintptr_t,
                      uintptr_t, float, float, uintptr_t, uintptr_t, int64_t>())
        .def("one", &Stepper::one)
        .def("many", &Stepper::many);
}
