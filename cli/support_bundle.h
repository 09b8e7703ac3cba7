// `tutti support-bundle`: what somebody needs who is to find out from afar what is wrong, as one tar.gz.
// Parts that cannot be had are missing, and manifest.json says why. Each part has a deadline and a bound, and
// so has the whole. Secrets are taken out of every part: values that are known here (tokens, passwords, those
// of variables with secret names) and what looks like one (scheduler/model/redact.h); specs and environments
// of jobs are not asked for at all. Reads only. Called by commands/machines.cpp.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/doctor.h"
#include "cli/verbs.h"
#include "scheduler/model/redact.h"

namespace tutti::cli {

struct BundleOptions {
  std::string file;               // "" = support-DATE.tar.gz; "-" = standard output
  DoctorOptions doctor;           // .db and the folders
  std::vector<std::string> logs;  // files whose ends are taken
  std::vector<std::string> configs;  // configuration files; none: those of the programs and packages here
  std::vector<std::string> units = {"tutti-scheduler", "tutti-worker"};  // of the journal
  int most_mb = 64;                   // of all parts, before they are packed
  std::chrono::seconds deadline{15};  // of each part
};
/// Without the values of keys with secret names, in whatever form TOML has them: also lists, also over several
/// lines, also behind '#'. The redactor of a bundle then looks at the rest.
std::string redacted_config(std::string_view toml);
/// The lines of a journal that was asked for with the newest first (journalctl -r), in the order of time. The
/// further lines of an entry are indented, and follow its first one. `cut`: the last line is not whole.
std::string in_order_of_time(std::string_view newest_first, bool cut);

int run_support_bundle(Session& session, const BundleOptions& options, const ConnectionFlags& flags);

/// One after the other; what is too large loses its beginning.
class BundleParts {
 public:
  BundleParts(Redactor redactor, std::size_t most_bytes)
      : redactor_(std::move(redactor)), left_(most_bytes) {}

  struct Got {
    std::string text;
    std::string missing;  // why there is nothing
    bool cut = false;     // there was more
  };
  /// What `get` throws is why the part is missing.
  void add(const std::string& name, const std::function<Got()>& get);
  /// With manifest.json, as a tar.gz.
  std::string finish(const std::string& made_at);

 private:
  struct Part {
    std::string name, text, missing;
    bool cut = false;
    double seconds = 0;
  };
  Redactor redactor_;
  std::size_t left_;
  std::vector<Part> parts_;
};

}  // namespace tutti::cli
