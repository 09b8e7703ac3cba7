#include "daemon/last_words.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

namespace tutti::daemon {
namespace {

const char* named = "";
std::terminate_handler as_ever = nullptr;

void on_terminate() noexcept {
  if (const auto thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {
      end_without_memory(named);
    } catch (...) {  // not ours
    }
  }
  if (as_ever != nullptr) as_ever();
  std::abort();
}

}  // namespace

void end_without_memory(const char* program) noexcept {
  char line[] =
      ": out of memory, ends at once with status 4, to be started again; nothing accepted is lost\n";
  iovec parts[] = {{const_cast<char*>(program), std::strlen(program)}, {line, sizeof line - 1}};
  [[maybe_unused]] const auto written = ::writev(STDERR_FILENO, parts, 2);
  ::_exit(kNoMemoryStatus);
}

void end_threads_without_memory(const char* program) {
  named = program;
  as_ever = std::set_terminate(on_terminate);
}

}  // namespace tutti::daemon
