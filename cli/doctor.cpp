#include "cli/doctor.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>
#include <optional>
#include <ostream>
#include <utility>

#include "api/wire/text_values.h"
#include "cli/doctor_machine.h"
#include "cli/documents.h"
#include "cli/listing.h"
#include "cli/profile.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using std::chrono::system_clock;

constexpr double kClockWarn = 5, kClockFail = 120;  // seconds; tokens and certificates bear no more
constexpr std::chrono::hours kExpiresSoon(72);
constexpr std::size_t kNamed = 5;                   // nodes in one line
constexpr std::chrono::seconds kDriverAnswers(10);  // a GPU that nobody keeps awake needs seconds

std::string word_of(Finding finding) {
  switch (finding) {
    case Finding::ok: return "ok";
    case Finding::warn: return "warn";
    case Finding::fail: return "fail";
  }
  return "?";
}

json::value tree_of(const std::string& text) {
  boost::system::error_code ec;
  json::value tree = json::parse(text, ec);
  return ec ? json::value() : tree;
}

std::string some(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kNamed ? text + ", … (" + std::to_string(names.size()) + ")" : text;
}

// "none", "silent", or what driver there is.
std::string ask_nvml() {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return "none";
  const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
  const auto version =
      reinterpret_cast<int (*)(char*, unsigned)>(dlsym(library, "nvmlSystemGetDriverVersion"));
  char text[96] = {};
  if (init == nullptr || version == nullptr || init() != 0) return "silent";
  const bool known = version(text, sizeof text - 1) == 0;
  return "driver " + std::string(known ? text : "of unknown version");
}

// In a process of its own: a driver that hangs lets go of nobody, and then "hangs" is the answer.
std::string driver_by_nvml(milliseconds patience) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return "silent";
  const pid_t pid = fork();
  if (pid == 0) {
    // One that hangs must not hold our output open: who reads that through a pipe would wait with it.
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2; ++fd)
      if (fd != ends[1]) dup2(null, fd);
    const std::string said = ask_nvml();
    _exit(write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  close(ends[1]);
  pollfd wait{.fd = ends[0], .events = POLLIN, .revents = 0};
  const bool heard = pid > 0 && poll(&wait, 1, static_cast<int>(patience.count())) > 0;
  std::array<char, 128> said{};
  const ssize_t n = heard ? read(ends[0], said.data(), said.size()) : 0;
  close(ends[0]);
  if (!heard && pid > 0) kill(pid, SIGKILL);
  if (pid > 0) waitpid(pid, nullptr, heard ? 0 : WNOHANG);  // in the driver not even that kill is heard
  if (n > 0) return {said.data(), static_cast<std::size_t>(n)};
  return heard || pid < 0 ? "silent" : "hangs";
}

// The answers are kept for the checks that follow.
class Doctor {
 public:
  Doctor(const ConnectionFlags& flags, milliseconds timeout, const Look& look)
      : flags_(flags), timeout_(timeout), look_(look) {}

  std::vector<Check> examine() {
    if (configuration() && server()) {
      clock();
      leader();
      others();
      console();
      if (token()) {
        versions();
        nodes();
      }
    }
    gpu_library();
    return std::move(checks_);
  }

 private:
  void say(const char* name, Finding finding, std::string text, std::string way_out = {}) {
    checks_.push_back({name, finding, clean(text), std::move(way_out)});
  }

  bool configuration() {
    try {
      connection_ = find_connection(flags_);
    } catch (const Failure& failure) {
      say("configuration", Finding::fail, failure.what(), failure.hint);
      return false;
    }
    std::string text = "server from " + connection_.server_from;
    text += connection_.token.empty() ? ", no token" : ", token from " + connection_.token_from;
    say("configuration", Finding::ok, text);
    struct stat status{};
    const std::string path = profile_path();
    if (!path.empty() && stat(path.c_str(), &status) == 0 && (status.st_mode & 077) != 0)
      say("configuration", Finding::warn, "others can read " + path + " and the tokens in it",
          "chmod 600 " + path);
    return true;
  }

  Outcome ask(const std::string& path) {
    Transfer transfer(connection_);
    return transfer.perform({.method = "GET", .path = path, .headers = {}, .body = {}}, timeout_);
  }

  bool is_heard() const { return alive_.trouble == Trouble::none && alive_.reply.status == 200; }

  void look_whether_alive() {
    const auto began = std::chrono::steady_clock::now();
    alive_ = ask("/healthz");
    heard_at_ = system_clock::now();
    took_ = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began);
  }

  // As every command does: of several servers the first that answers. others() tells of the silent ones.
  void find_server() {
    const Connection all = connection_;
    look_whether_alive();
    const Outcome first = alive_;
    for (std::size_t tried = 0; !is_heard() && tried < all.others.size(); ++tried) {
      connection_.others.push_back(std::exchange(connection_.server, connection_.others.front()));
      connection_.others.erase(connection_.others.begin());
      look_whether_alive();
    }
    if (is_heard()) return;
    connection_ = all;
    alive_ = first;
  }

  bool server() {
    find_server();
    const bool tls = connection_.server.starts_with("https://");
    const bool certificate =
        alive_.why.find("ertificate") != std::string::npos || alive_.why.find("SSL") != std::string::npos;
    if (alive_.trouble != Trouble::none && tls && certificate) {
      say("tls", Finding::fail, alive_.why,
          connection_.ca.empty() ? "--ca FILE or TUTTI_CA names the certificates to trust"
                                 : "is " + connection_.ca + " the file that belongs to this server?");
      return false;
    }
    if (!is_heard()) {
      const std::string why =
          alive_.trouble != Trouble::none ? alive_.why : "it answered " + std::to_string(alive_.reply.status);
      say("server", Finding::fail, connection_.server + " does not answer: " + why,
          "is it running there, and is the way to it open? tutti up starts one here");
      return false;
    }
    say("server", Finding::ok, connection_.server + " answered in " + std::to_string(took_.count()) + " ms");
    if (tls) {
      say("tls", Finding::ok,
          "the certificate is good" + (connection_.ca.empty() ? "" : " by " + connection_.ca));
      end_of_certificate();
    } else if (connection_.unix_socket.empty() && connection_.server.find("://127.") == std::string::npos &&
               connection_.server.find("://localhost") == std::string::npos &&
               connection_.server.find("://[::1]") == std::string::npos)
      say("tls", Finding::warn, "this connection is not encrypted: tokens can be read on the way",
          "use the server's https URL");
    return true;
  }

  void clock() {
    const auto ahead = clock_ahead(alive_.reply.header("Date"), heard_at_);
    if (!ahead) return say("clock", Finding::warn, "the server does not say what time it has");
    const double apart = std::max(0.0, std::abs(*ahead) - 1);  // its date has no fractions
    char text[64];
    std::snprintf(text, sizeof text, "%.0f s %s the server's", std::abs(*ahead),
                  *ahead >= 0 ? "ahead of" : "behind");
    if (apart < kClockWarn)
      say("clock", Finding::ok, "agrees with the server's");
    else
      say("clock", apart < kClockFail ? Finding::warn : Finding::fail, text,
          "set it by NTP: timedatectl set-ntp true");
  }

  void leader() {
    const Outcome ready = ask("/readyz");
    const json::value tree = tree_of(ready.reply.body);
    const json::object& body = as_object(tree);
    if (ready.trouble == Trouble::none && ready.reply.status == 200)
      return say(
          "leader", Finding::ok,
          text_of(body, "leader").empty()  // it does not know us
              ? "ready, as " + text_of(body, "role")
              : text_of(body, "leader") + " leads, term " + text_of(body, "term") + "; the database answers");
    std::string why = ready.trouble == Trouble::none ? text_of(body, "detail") : ready.why;
    if (why.empty()) why = "it answered " + std::to_string(ready.reply.status);
    say("leader", Finding::fail, "the server is not ready: " + why,
        "its log says more; is PostgreSQL up, and is another scheduler leading?");
  }

  // Each of several schedulers by itself: who leads, who could take over.
  void others() {
    if (connection_.others.empty()) return;
    std::vector<std::string> good{connection_.server};
    for (const auto& server : connection_.others) {
      Connection one = connection_;
      one.server = server;
      one.others.clear();
      Transfer transfer(one);
      const Outcome ready =
          transfer.perform({.method = "GET", .path = "/readyz", .headers = {}, .body = {}}, timeout_);
      const json::value tree = tree_of(ready.reply.body);
      const json::object& body = as_object(tree);
      if (ready.trouble != Trouble::none)
        say("schedulers", Finding::warn, server + " does not answer: " + ready.why,
            "start it again: it is a spare");
      else if (ready.reply.status != 200)
        say("schedulers", Finding::warn, server + " is not ready: " + text_of(body, "detail"),
            "its log says more");
      else
        good.push_back(server + " (" + text_of(body, "role") + ")");
    }
    if (good.size() > 1) say("schedulers", Finding::ok, "answer: " + some(good));
  }

  void console() {
    const Outcome page = ask("/console/");
    if (page.trouble == Trouble::none && page.reply.status == 200)
      say("console", Finding::ok, connection_.server + "/console/");
    else if (page.trouble == Trouble::none && page.reply.status == 404)
      say("console", Finding::ok, "none is served here: --console-dir of the scheduler");
    else
      say("console", Finding::warn,
          "it answered " + (page.trouble == Trouble::none ? std::to_string(page.reply.status) : page.why),
          "is --console-dir whole?");
  }

  void end_of_certificate() {
    const auto days = certificate_days(connection_.server, connection_.ca, timeout_);
    if (!days) return;
    char text[64];
    std::snprintf(text, sizeof text, "the certificate ends in %.0f days", *days);
    say("tls", *days < 14 ? Finding::warn : Finding::ok, text,
        *days < 14 ? "renew it; it is read again by itself" : "");
  }

  bool token() {
    if (connection_.token.empty()) {
      say("token", Finding::fail, "there is no token", "tutti login " + connection_.server);
      return false;
    }
    const Outcome me = ask("/v1/me");
    const json::value tree = tree_of(me.reply.body);
    if (me.reply.status == 404) return token_of_older();
    if (me.reply.status != 200) {
      const std::string detail = text_of(as_object(tree), "detail");
      const bool refused = me.reply.status == 401 || me.reply.status == 403;
      say("token", Finding::fail,
          (refused ? "the server refuses it: " : "it cannot be tried: ") + (detail.empty() ? me.why : detail),
          me.reply.status == 401 ? "tutti login " + connection_.server : "");
      return false;
    }
    const json::object& body = as_object(tree);
    const auto* scopes = body.if_contains("scopes");
    const std::string of =
        "user " + text_of(body, "user") + ", scopes " + (scopes ? list_text(*scopes) : "unknown");
    const std::string until = text_of(object_of(body, "token"), "expires_at");
    const auto expires = wire::parse_instant(until);
    if (expires && *expires - look_.now < kExpiresSoon)
      say("token", Finding::warn, of + "; it expires on " + until.substr(0, 16),
          "tutti login gets a new one");
    else
      say("token", Finding::ok, of + (expires ? ", until " + until.substr(0, 10) : ""));
    return true;
  }

  // A server without /v1/me: what needs a token tells whether this one is good.
  bool token_of_older() {
    const Outcome cluster = ask("/v1/cluster");
    const bool good =
        cluster.trouble == Trouble::none && cluster.reply.status != 401 && cluster.reply.status != 403;
    say("token", good ? Finding::ok : Finding::fail, good ? "the server takes it" : "the server refuses it",
        good ? "" : "tutti login " + connection_.server);
    return good;
  }

  void versions() {
    const Outcome cluster = ask("/v1/cluster");
    const json::value tree = tree_of(cluster.reply.body);
    server_version_ = text_of(as_object(tree), "version");
    const std::string api(cluster.reply.header("Tutti-API-Version"));
    const std::string text = "client " + client_version() + ", server " +
                             (server_version_.empty() ? "unknown" : server_version_) + ", API " +
                             (api.empty() ? "unknown" : api);
    if (!api.empty() && api != "v1")
      say("versions", Finding::fail, text + ": this client speaks v1",
          "install the tutti of the server's version");
    else if (!server_version_.empty() && !versions_fit(client_version(), server_version_))
      say("versions", Finding::fail, text + ": more than one major version apart",
          "install the tutti of the server's version");
    else
      say("versions", server_version_.empty() ? Finding::warn : Finding::ok, text);
  }

  void nodes() {
    const Outcome answer = ask("/v1/nodes");
    if (answer.reply.status != 200) {
      const json::value tree = tree_of(answer.reply.body);
      const std::string why = text_of(as_object(tree), "detail");
      return say("nodes", Finding::warn, "they are not shown: " + (why.empty() ? answer.why : why));
    }
    const json::value tree = tree_of(answer.reply.body);
    const json::array& all = array_of(as_object(tree), "nodes");
    if (all.empty())
      return say("nodes", Finding::warn, "no node has joined",
                 "tutti join-token create, then start tutti-worker there");
    std::vector<std::string> away, aside, other, unwell;
    std::size_t counted = 0;
    for (const auto& item : all) {
      const json::object& node = as_object(item);
      const std::string name = text_of(node, "name"), service = text_of(node, "service");
      if (service == "retired") continue;
      ++counted;
      if (text_of(node, "state") != "reachable") away.push_back(name + " (" + text_of(node, "state") + ")");
      if (service == "quarantined" || service == "repair") aside.push_back(name + " (" + service + ")");
      if (const json::array& conditions = array_of(node, "conditions"); !conditions.empty())
        unwell.push_back(name + " (" + text_of(as_object(conditions.front()), "kind") + ")");
      const std::string version = text_of(node, "worker_version");
      if (!version.empty() && !server_version_.empty() && version != server_version_)
        other.push_back(name + " (" + version + ")");
    }
    if (!away.empty())
      say("nodes", Finding::warn, "do not answer: " + some(away),
          "tutti nodes -o wide; is tutti-worker running there?");
    if (!aside.empty())
      say("nodes", Finding::warn, "are set aside: " + some(aside), "tutti faults --node NAME says why");
    if (!unwell.empty())
      say("nodes", Finding::warn, "have conditions: " + some(unwell),
          "tutti node inspect NAME; docs/operations.md");
    if (away.empty() && aside.empty()) say("nodes", Finding::ok, std::to_string(counted) + " answer");
    if (!other.empty())
      say("workers", Finding::warn, "have other versions than the server: " + some(other),
          "upgrade them; jobs go on while a worker is restarted");
    else
      say("workers", Finding::ok, "have the server's version");
  }

  void gpu_library() {
    const std::string driver = driver_by_nvml(kDriverAnswers);
    const std::string hint = "nvidia-smi says more; nothing to do if this machine is no node";
    if (driver == "none")
      say("gpu library", Finding::ok, "none here; only nodes need one");
    else if (driver == "hangs")
      say("gpu library", Finding::warn, "libnvidia-ml.so.1 is here, but its driver hangs", "dmesg; " + hint);
    else if (driver == "silent")
      say("gpu library", Finding::warn, "libnvidia-ml.so.1 is here, but its driver does not answer", hint);
    else
      say("gpu library", Finding::ok, driver);
  }

  const ConnectionFlags& flags_;
  const milliseconds timeout_;
  const Look& look_;
  Connection connection_;
  Outcome alive_;
  system_clock::time_point heard_at_;
  milliseconds took_{};
  std::string server_version_;
  std::vector<Check> checks_;
};

std::string report_text(const std::vector<Check>& checks, const Look& look) {
  std::string text;
  for (const auto& check : checks) {
    const Tone tone = check.finding == Finding::ok     ? Tone::good
                      : check.finding == Finding::warn ? Tone::warn
                                                       : Tone::bad;
    const std::string word = word_of(check.finding);
    text += paint(word, tone, look) + std::string(6 - word.size(), ' ') + check.name +
            std::string(check.name.size() < 15 ? 15 - check.name.size() : 1, ' ') + check.text + "\n";
    if (!check.way_out.empty()) text += std::string(21, ' ') + "→ " + clean(check.way_out) + "\n";
  }
  return text;
}

}  // namespace

std::optional<double> clock_ahead(std::string_view http_date, system_clock::time_point now) {
  std::tm parts{};
  const std::string text(http_date);
  const char* end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S", &parts);
  if (end == nullptr) return std::nullopt;
  return std::chrono::duration<double>(now.time_since_epoch()).count() - static_cast<double>(timegm(&parts));
}

bool versions_fit(std::string_view client, std::string_view server) {
  const auto major = [](std::string_view version) {
    int n = -1;
    std::from_chars(version.data(), version.data() + version.size(), n);
    return n;
  };
  const int ours = major(client), theirs = major(server);
  return ours < 0 || theirs < 0 || std::abs(ours - theirs) <= 1;
}

std::vector<Check> doctor_checks(const Look& look, const ConnectionFlags& flags, milliseconds timeout,
                                 const DoctorOptions& options) {
  std::vector<Check> checks = Doctor(flags, timeout, look).examine();
  const auto add = [&](std::vector<Check> more) {
    for (auto& check : more) checks.push_back({check.name, check.finding, clean(check.text), check.way_out});
  };
  if (options.machine) add(examine_machine(options));
  if (!options.db.empty()) add(examine_database(options.db, timeout));
  return checks;
}

json::object doctor_view(const std::vector<Check>& checks) {
  bool passed = true;
  json::array list;
  for (const auto& check : checks) {
    passed = passed && check.finding != Finding::fail;
    list.push_back(json::object{{"name", check.name},
                                {"result", word_of(check.finding)},
                                {"detail", check.text},
                                {"hint", check.way_out}});
  }
  return {{"passed", passed}, {"checks", std::move(list)}};
}

int run_doctor(const Printer& printer, const ConnectionFlags& flags, milliseconds timeout,
               const DoctorOptions& options) {
  const std::vector<Check> checks = doctor_checks(printer.look, flags, timeout, options);
  const json::object view = doctor_view(checks);
  Printer form = printer;
  if (options.json) form.format = Format::json;
  form.print(
      view, [&] { return report_text(checks, printer.look); },
      [&] {
        return list_table(view.at("checks").as_array(),
                          {{"CHECK", "name"}, {"RESULT", "result"}, {"DETAIL", "detail"}, {"HINT", "hint"}},
                          printer.look);
      });
  return view.at("passed").as_bool() ? 0 : static_cast<int>(Exit::failed);
}

}  // namespace tutti::cli
