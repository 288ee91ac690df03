// Packed matrices and their products.
#include "module_arrays.hpp"
#include "threads.hpp"

using namespace nanobind::literals;

namespace memorycell {

namespace {

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

void define_weights(nb::module_ &m) {
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
    m.def("product", &product);
    m.def("outer", &outer);
}

} // namespace memorycell
