#include "tests/support/failing_new.h"

#include <cstdlib>
#include <new>

namespace tutti::test {
namespace {

thread_local std::int64_t left = -1;  // until the one that fails; -1: none does
thread_local bool failed = false;

bool fails_now() {
  if (left < 0) return false;
  if (left-- > 0) return false;
  failed = true;
  return true;
}

void* allocate(std::size_t size) { return fails_now() ? nullptr : std::malloc(size == 0 ? 1 : size); }

}  // namespace

void fail_allocation(std::int64_t nth) {
  failed = false;
  left = nth;
}

bool stop_failing() {
  left = -1;
  return failed;
}

}  // namespace tutti::test

void* operator new(std::size_t size) {
  if (void* memory = tutti::test::allocate(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return tutti::test::allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
