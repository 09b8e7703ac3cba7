// A batch script as anybody may hand it over; what stands before the first NUL byte are words of the command
// line, one a line. What comes out without an error must be a job that the server's reader takes, and
// warnings must name lines that there are.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/wire/job_spec_codec.h"
#include "cli/sbatch_script.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tutti;
  constexpr std::int64_t kNow = 1'800'000'000;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  cli::SbatchInput input;
  input.folder = "/home/ann";
  input.name = "job.sh";
  input.environment = {{"A", "1"}};
  input.calendar = cli::slurm::utc_calendar(kNow);
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    std::string_view words = text.substr(0, nul);
    text.remove_prefix(nul + 1);
    while (!words.empty()) {
      const auto end = std::min(words.find('\n'), words.size());
      input.options.emplace_back(words.substr(0, end));
      words.remove_prefix(std::min(end + 1, words.size()));
    }
    bool wrapped = false;
    input.options.resize(cli::count_sbatch_options(input.options, wrapped));
  }
  input.script = text;
  const cli::SbatchJob job = cli::read_sbatch(input);
  const auto lines = std::count(text.begin(), text.end(), '\n') + 1;
  for (const auto* notes : {&job.warnings, &job.errors})
    for (const auto& note : *notes)
      if (note.line < 0 || note.text.empty()) std::abort();
  for (const auto& error : job.errors)
    if (error.line > lines) std::abort();
  if (!job.errors.empty()) return 0;
  const Now now{Instant(std::chrono::seconds(kNow)), Mono{}};
  if (!wire::parse_spec_json(boost::json::serialize(job.spec), now).ok()) std::abort();
  return 0;
}
