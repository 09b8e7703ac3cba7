// cancel, hold, release, requeue: one request per job, all of them tried, the first failure decides the
// status.
#include <boost/json/serialize.hpp>
#include <istream>
#include <ostream>

#include "cli/documents.h"
#include "cli/verbs.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr int kMostTasks = 10'000;  // of one array

// {"array": 12, "changed": 30, "refused": 2}
void report_array(const Session& session, const Document& document, const std::string& verb) {
  const json::object& done = as_object(document.tree);
  if (session.format == Format::json) {
    session.out << document.text << (document.text.ends_with('\n') ? "" : "\n");
  } else if (session.format == Format::yaml) {
    session.out << "---\n" << to_yaml(document.tree);
  } else {
    session.out << "array " << text_of(done, "array") << ": " << verb << " done to "
                << text_of(done, "changed") << " tasks";
    if (text_of(done, "refused") != "0") session.out << ", not possible for " << text_of(done, "refused");
    session.out << "\n";
  }
}

std::string plural(std::size_t n) { return std::to_string(n) + (n == 1 ? " job" : " jobs"); }

void ask(const Session& session, const ChangeOptions& options, std::size_t count) {
  const std::string what =
      options.array ? "every task of " + std::string(count == 1 ? "an array" : "arrays") : plural(count);
  if (!session.input_is_terminal)
    throw Failure(Exit::usage, options.verb + " of " + what + " needs -y when nobody can be asked");
  session.err << options.verb << " " << what << "? [y/N] " << std::flush;
  std::string answer;
  std::getline(session.in, answer);
  if (answer != "y" && answer != "Y" && answer != "yes") throw Failure(Exit::failed, "nothing was changed");
}

void report(const Session& session, const Document& document, const std::string& done) {
  const json::object& job = as_object(document.tree);
  const std::string name = text_of(job, "name");
  if (session.format == Format::json) {
    session.out << document.text << (document.text.ends_with('\n') ? "" : "\n");  // one object per line
  } else if (session.format == Format::yaml) {
    session.out << "---\n" << to_yaml(document.tree);
  } else {
    session.out << "job " << text_of(job, "id") << (name.empty() ? "" : " (" + clean(name) + ")") << done
                << text_of(job, "state") << "\n";
  }
}

void would_change_array(Session& session, const std::string& id, const std::string& verb) {
  if (session.human()) session.out << "would " << verb << " these tasks:\n";
  ListOptions tasks;
  tasks.array = id;
  tasks.limit = kMostTasks;
  run_ls(session, tasks);
}

}  // namespace

int run_change(Session& session, const ChangeOptions& options) {
  const std::vector<std::string> ids = expand_ids(session, options.ids);
  if ((ids.size() > 1 || options.array) && !options.yes && !options.dry_run && options.verb != "release")
    ask(session, options, ids.size());
  const json::object body =
      options.reason.empty() ? json::object{} : json::object{{"reason", options.reason}};
  int status = 0;
  for (const auto& word : ids) {
    try {
      const std::string id = resolve_job(session, word);
      if (options.dry_run && options.array)
        would_change_array(session, id, options.verb);
      else if (options.dry_run)
        report(session, session.client.get("/v1/jobs/" + id), ": would " + options.verb + " it; now ");
      else if (options.array)
        report_array(session, session.client.post("/v1/jobs/" + id + ":" + options.verb + "?array=1", body),
                     options.verb);
      else
        report(session, session.client.post("/v1/jobs/" + id + ":" + options.verb, body), " is ");
    } catch (const Failure& failure) {
      if (ids.size() == 1 || failure.exit == Exit::unreachable) throw;
      // The others must not stay unchanged because of this one.
      session.err << "tutti: " << clean(word) << ": " << failure.what() << "\n";
      if (status == 0) status = static_cast<int>(failure.exit);
    }
  }
  return status;
}

}  // namespace tutti::cli
