#include "cli/status_line.h"

#include <ostream>

namespace tutti::cli {

void StatusLine::show(const std::string& text) {
  if (!session_.error_is_terminal || !session_.human() || text == shown_) return;
  shown_ = text;
  session_.err << "\r\033[K" << cut(clean(text), session_.look.width - 1) << std::flush;
}

void StatusLine::clear() {
  if (shown_.empty()) return;
  session_.err << "\r\033[K" << std::flush;
  shown_.clear();
}

}  // namespace tutti::cli
