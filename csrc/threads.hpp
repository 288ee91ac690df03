// Splitting rows over threads.
//
// Uses PyTorch's own threads if its OpenMP is GNU's: they spin after each operator, and other threads would compete
// with them for the cores. Otherwise threads are started for each call.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#endif

namespace memorycell {

// The entry points of GNU OpenMP, whose ABI is stable: https://gcc.gnu.org/onlinedocs/libgomp.
struct Team {
    void (*parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags) = nullptr; // GOMP_parallel
    int (*thread_number)() = nullptr; // omp_get_thread_num
    int (*size)() = nullptr;          // omp_get_num_threads
};
inline Team team;

// A child after fork() does not have the parent's threads, and GNU OpenMP would deadlock waiting for them.
inline void leave_team() { team = Team{}; }

inline void share_team(uintptr_t parallel, uintptr_t thread_number, uintptr_t size) {
    team.parallel = reinterpret_cast<decltype(team.parallel)>(parallel);
    team.thread_number = reinterpret_cast<decltype(team.thread_number)>(thread_number);
    team.size = reinterpret_cast<decltype(team.size)>(size);
#if defined(__linux__)
    static const int once = pthread_atfork(nullptr, nullptr, leave_team);
    (void)once;
#endif
}

// work(k, begin, end) for parts k = 0 .. threads - 1 of the rows; it must not throw.
template <class Work> void over_threads(int64_t rows, int threads, Work work) {
    if (threads > rows)
        threads = int(rows);
    auto part = [&](int64_t k) { work(int(k), rows * k / threads, rows * (k + 1) / threads); };
    if (threads <= 1) {
        work(0, int64_t(0), rows);
    } else if (team.parallel) {
        struct Job {
            decltype(part) *run;
            int threads;
        } job{&part, threads};
        auto body = [](void *data) { // the team may be smaller than requested, down to this thread alone
            const Job &own = *static_cast<Job *>(data);
            for (int k = team.thread_number(); k < own.threads; k += team.size())
                (*own.run)(k);
        };
        team.parallel(body, &job, unsigned(threads), 0);
    } else {
        std::vector<std::thread> others;
        for (int k = 1; k < threads; k++)
            others.emplace_back([=] { part(k); });
        part(0);
        for (std::thread &thread : others)
            thread.join();
    }
}

} // namespace memorycell
