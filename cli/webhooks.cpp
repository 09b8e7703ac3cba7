// webhook and secret: what leaves the cluster, and what jobs get without anybody reading it.
#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <istream>
#include <ostream>

#include "cli/access.h"
#include "cli/documents.h"
#include "cli/listing.h"
#include "cli/pages.h"
#include "cli/spec_file.h"
#include "cli/terminal.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxSecret = 64 << 10;

std::string path_of(const std::string& name) { return "/v1/webhooks/" + percent_encode(name); }

int say(Session& session, const Document& document, const std::string& what) {
  session.print(document, [&] { return what + "\n"; }, [&] { return Table{{{"RESULT"}}, {{{what}}}}; });
  return 0;
}
int would(Session& session, const std::string& what, const json::object& body) {
  session.print(
      body, [&] { return "would " + what + (body.empty() ? "\n" : ":\n" + to_yaml(body)); },
      [&] { return Table{{{"WOULD"}}, {{{what}}}}; });
  return 0;
}

Table webhooks_table(const json::array& hooks, const Look& look) {
  return list_table(hooks,
                    {{"WEBHOOK", "name"},
                     {"URL", "url"},
                     {"KIND", "kind"},
                     {"EVENTS", "events", Show::list},
                     {"PROJECTS", "projects", Show::list},
                     {"ENABLED", "enabled"}},
                    look);
}

std::string secret_value(Session& session, const std::string& name) {
  if (session.input_is_terminal) return ask_secret("value of " + name + ": ", "write it to standard input");
  std::string value(kMaxSecret + 1, '\0');
  session.in.read(value.data(), static_cast<std::streamsize>(value.size()));
  value.resize(static_cast<std::size_t>(session.in.gcount()));
  if (value.size() > kMaxSecret) throw Failure(Exit::usage, "a secret has at most 64 KiB");
  if (value.ends_with('\n')) value.pop_back();
  if (value.empty()) throw Failure(Exit::usage, "there is no value on standard input");
  return value;
}

std::string project_of(Session& session, const std::string& given) {
  const std::string project = given.empty() ? session.client.connection().project : given;
  if (project.empty())
    throw Failure(Exit::usage, "secret: --project says whose jobs may use it",
                  "tutti context add NAME --project P makes it the usual one");
  return project;
}

}  // namespace

int run_webhooks(Session& session) {
  const Document document = session.client.get("/v1/webhooks");
  session.print(document,
                [&] { return webhooks_table(array_of(as_object(document.tree), "webhooks"), session.look); });
  return 0;
}

int run_webhook_show(Session& session, const std::string& name) {
  const Document document = session.client.get(path_of(name));
  session.print(
      document, [&] { return to_yaml(document.tree); },
      [&] { return webhooks_table(json::array{document.tree}, session.look); });
  return 0;
}

int run_webhook_set(Session& session, const WebhookSet& set) {
  json::value body = json::object();
  json::object& fields = body.get_object();
  if (!set.url.empty()) fields["url"] = set.url;
  if (!set.kind.empty()) fields["kind"] = set.kind;
  if (!set.events.empty()) fields["events"] = json::value_from(set.events);
  if (!set.projects.empty()) fields["projects"] = json::value_from(set.projects);
  for (const auto& assignment : set.set) apply_set(body, assignment);
  if (set.dry_run) return would(session, "set webhook " + set.name, fields);
  if (set.secret_stdin)
    fields["secret"] = read_secret_line(session.in, "secret");
  else if (set.secret)
    fields["secret"] =
        ask_secret("secret that signs its messages: ", "--secret-stdin reads it from standard input");
  const Document document = session.client.put(path_of(set.name), body);
  const std::string made = text_of(as_object(document.tree), "secret");
  const int status = say(session, document, "webhook " + set.name + " is set");
  if (!made.empty() && session.human()) session.out << "its secret, shown this once: " << clean(made) << "\n";
  return status;
}

int run_webhook_remove(Session& session, const std::string& name, bool dry_run) {
  if (dry_run) return would(session, "remove webhook " + name, {});
  return say(session, session.client.remove(path_of(name)), "webhook " + name + " is removed");
}

int run_webhook_test(Session& session, const std::string& name) {
  const Document document = session.client.post(path_of(name) + ":test", json::object());
  const json::object& result = as_object(document.tree);
  const bool delivered = flag_of(result, "delivered");
  const std::string status = text_of(result, "status"), error = text_of(result, "error");
  std::string text = "webhook " + name + ": the test message was " + (delivered ? "taken" : "not taken");
  if (!status.empty()) text += "; its answer: " + status;
  if (!error.empty()) text += "; " + clean(error);
  say(session, document, text);
  return delivered ? 0 : static_cast<int>(Exit::failed);
}

int run_webhook_deliveries(Session& session, const std::string& name) {
  const Document document = get_pages(session.client, path_of(name) + "/deliveries", "deliveries");
  session.print(document, [&] {
    return list_table(array_of(as_object(document.tree), "deliveries"),
                      {{"ID", "id"},
                       {"NOTICE", "notice"},
                       {"JOB", "job_id", Show::number},
                       {"STATE", "state", Show::state},
                       {"TRIES", "attempts", Show::number},
                       {"STATUS", "status", Show::number},
                       {"AGE", "created_at", Show::time},
                       {"NEXT", "next_at", Show::time},
                       {"ERROR", "error"}},
                      session.look);
  });
  return 0;
}

int run_secrets(Session& session, const std::string& project) {
  const Document document =
      session.client.get("/v1/secrets?project=" + percent_encode(project_of(session, project)));
  session.print(document, [&] {
    return list_table(array_of(as_object(document.tree), "secrets"),
                      {{"SECRET", "name"},
                       {"PROJECT", "project"},
                       {"VERSION", "version", Show::number},
                       {"CHANGED", "updated_at", Show::time},
                       {"BY", "updated_by"}},
                      session.look);
  });
  return 0;
}

int run_secret_set(Session& session, const SecretSet& set) {
  const std::string project = project_of(session, set.project);
  const std::string what = "secret " + set.name + " of project " + project;
  if (set.dry_run) return would(session, "set " + what, {});
  const json::object body{{"value", secret_value(session, set.name)}};
  const Document document =
      session.client.put("/v1/secrets/" + percent_encode(project) + "/" + percent_encode(set.name), body);
  for (const auto& warning : array_of(as_object(document.tree), "warnings"))
    session.err << "warning: " << clean(scalar_text(warning)) << "\n";
  return say(session, document, what + " is set");
}

int run_secret_remove(Session& session, const SecretSet& set) {
  const std::string project = project_of(session, set.project);
  const std::string what = "secret " + set.name + " of project " + project;
  if (set.dry_run) return would(session, "remove " + what, {});
  return say(session,
             session.client.remove("/v1/secrets/" + percent_encode(project) + "/" + percent_encode(set.name)),
             what + " is removed");
}

}  // namespace tutti::cli
