// Which instruction set this processor offers, of those the engine is compiled for.
#pragma once

namespace memorycell {

// "avx512" (F, BW, DQ, VL), "avx2" (with FMA), or "plain" for everything else, ARM included.
inline const char *instruction_set() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "avx2";
#endif
    return "plain";
}

} // namespace memorycell
