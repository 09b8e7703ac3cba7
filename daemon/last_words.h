// How a service ends that has no memory left: at once, with one line on standard error. What it remembers may
// be half a change, and to put things in order would need memory too. All that it has promised is written
// down: the rows of a scheduler, the state directory of a worker. Nothing that was running ends with it.
//
// Called by: main.cpp and serving.cpp of the scheduler, worker/main.cpp.
#pragma once

namespace tutti::daemon {

inline constexpr int kNoMemoryStatus = 4;  // of the process

/// Needs no memory.
[[noreturn]] void end_without_memory(const char* program) noexcept;

/// Where std::bad_alloc leaves a thread, or a function that may throw nothing, the process ends in this way;
/// whatever else gets there ends it as ever. Once, before other threads begin. `program` is kept.
void end_threads_without_memory(const char* program);

}  // namespace tutti::daemon
