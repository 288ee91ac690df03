// What the files of the Python interface share: memory, the instruction set in use, and packed matrices.
// Tensors arrive as addresses (tensor.data_ptr()); src/memorycell/ops/binding.py checks types, shapes and layouts.
#pragma once

#include <nanobind/nanobind.h>

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "engine.hpp"

namespace memorycell {

namespace nb = nanobind;

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

// The instruction set in use: for what is packed, and run without packed matrices, from now on.
inline const Engine *current = nullptr;

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

void define_weights(nb::module_ &); // module_weights.cpp
void define_passes(nb::module_ &);  // module_passes.cpp
void define_steps(nb::module_ &);   // module_steps.cpp

} // namespace memorycell
