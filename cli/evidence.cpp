// tutti evidence: one attempt's bundle into a file, which comes into being only when all of it is here.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "cli/client.h"
#include "cli/documents.h"
#include "cli/status_line.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

std::string size_text(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, bytes < 10 << 20 ? "%.1f KiB" : "%.0f KiB",
                static_cast<double>(bytes) / 1024);
  return text;
}

// Copies the stream; its length.
std::int64_t copy(Session& session, HttpStream& stream, std::ostream& to) {
  std::int64_t length = 0;
  StatusLine line(session);
  std::string bytes;
  while (true) {
    bytes.clear();
    switch (stream.read(bytes, session.client.patience().timeout)) {
      case HttpStream::Read::data:
        length += static_cast<std::int64_t>(bytes.size());
        if (!to.write(bytes.data(), static_cast<std::streamsize>(bytes.size())))
          throw Failure(Exit::failed, "the bundle cannot be written", "is the disk full?");
        line.show("evidence: " + size_text(length));
        break;
      case HttpStream::Read::end:
        if (!to.flush()) throw Failure(Exit::failed, "the bundle cannot be written", "is the disk full?");
        return length;
      case HttpStream::Read::quiet:
      case HttpStream::Read::broken:
        throw Failure(Exit::unreachable, "the bundle broke off",
                      "ask again; a node that does not answer is left out");
    }
  }
}

}  // namespace

int run_evidence(Session& session, const EvidenceOptions& options) {
  const std::string id = resolve_job(session, options.id);
  const std::string attempt = options.attempt > 0 ? std::to_string(options.attempt) : "latest";
  const auto stream = session.client.stream("/v1/jobs/" + id + "/attempts/" + attempt + "/evidence", {});
  if (options.file == "-") {
    copy(session, *stream, session.out);
    return 0;
  }
  const std::string path = options.file.empty() ? "evidence-" + id + "-" + attempt + ".tar.gz" : options.file;
  const std::string half = path + ".part";
  std::ofstream file(half, std::ios::binary | std::ios::trunc);
  if (!file) throw Failure(Exit::usage, "cannot write " + half);
  try {
    const auto length = copy(session, *stream, file);
    file.close();
    if (std::rename(half.c_str(), path.c_str()) != 0) throw Failure(Exit::usage, "cannot write " + path);
    session.err << path << ": " << size_text(length) << "; tar xzf " << path
                << ", then read summary.json first\n";
  } catch (...) {
    unlink(half.c_str());
    throw;
  }
  return 0;
}

}  // namespace tutti::cli
