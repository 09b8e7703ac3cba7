// sbatch: a batch script of Slurm, submitted as it is. What it means is in sbatch_script.h.
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <ostream>

#include "cli/documents.h"
#include "cli/sbatch_script.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

std::string place_of(const std::string& script, int line) {
  if (line == kCommandLine) return "sbatch";
  return (script == "-" ? std::string("standard input") : script) + ":" + std::to_string(line);
}

std::map<std::string, std::string> own_environment() {
  std::map<std::string, std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text(*entry);
    if (const auto equals = text.find('='); equals != std::string::npos)
      all[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return all;
}

struct Call {
  SbatchInput input;
  std::string path = "-";  // of the script
};

Call read_call(Session& session, const std::vector<std::string>& words) {
  Call call;
  bool wrapped = false;
  const auto count = static_cast<std::ptrdiff_t>(count_sbatch_options(words, wrapped));
  call.input.options.assign(words.begin(), words.begin() + count);
  auto rest = words.begin() + count;
  if (wrapped && rest != words.end())
    throw Failure(Exit::usage, "sbatch: --wrap and a script do not go together");
  if (rest != words.end()) call.path = *rest++;
  call.input.arguments.assign(rest, words.end());
  if (!wrapped) call.input.script = read_spec_file(call.path, session.in);
  if (call.path != "-") call.input.name = std::filesystem::path(call.path).filename().string();
  call.input.folder = std::filesystem::current_path().string();
  call.input.environment = own_environment();
  call.input.calendar = slurm::local_calendar();
  return call;
}

void refuse(const std::string& path, const std::vector<SbatchNote>& errors) {
  std::string text;
  for (const auto& error : errors)
    text += (text.empty() ? "" : "\n") + place_of(path, error.line) + ": " + clean(error.text);
  throw Failure(Exit::usage, text, "tutti sbatch --dry-run shows the job that comes of a script");
}

}  // namespace

int run_sbatch(Session& session, const std::vector<std::string>& words) {
  const Call call = read_call(session, words);
  SbatchJob job = read_sbatch(call.input);
  for (const auto& warning : job.warnings)
    session.err << place_of(call.path, warning.line) << ": warning: " << clean(warning.text) << "\n";
  if (!job.errors.empty()) refuse(call.path, job.errors);
  if (const std::string& project = session.client.connection().project; !project.empty())
    job.spec.emplace("project", project);  // not if it is there
  if (job.dry_run) {
    const auto text = [&] { return to_yaml(job.spec); };
    session.print(job.spec, text, [&]() -> Table {
      throw Failure(Exit::usage, "sbatch --dry-run prints a job, not a table", "use -o yaml or -o json");
    });
    return 0;
  }
  if (job.parsable && (job.wait || job.follow))
    throw Failure(Exit::usage, "sbatch: --parsable prints the id and does not wait");
  SubmitOptions options;
  options.key = job.key;
  options.wait = job.wait;
  options.follow = job.follow;
  SpecText spec{json::serialize(job.spec), "application/json"};
  if (!job.parsable) return submit_spec(session, std::move(spec), options);
  const std::string key = options.key.empty() ? make_key() : options.key;
  const Document document = session.client.submit(std::move(spec.body), spec.content_type, key);
  session.out << text_of(as_object(document.tree), "id") << "\n";
  return 0;
}

}  // namespace tutti::cli
