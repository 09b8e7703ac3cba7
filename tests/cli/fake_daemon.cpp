// Stands in for tutti-scheduler, tutti-worker, tutti-supervisor and tutti-gpu-sim in the tests of `tutti up`,
// by the name it is called with. They write what they do into DATA/journal, one line each, appended in one
// write.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>

#include "api/http/server.h"

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using namespace tutti;

std::map<std::string, std::string> read_flags(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--") && i + 1 < argc && argv[i + 1][0] != '-') flags[word.substr(2)] = argv[++i];
  }
  return flags;
}

void write_whole(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  fs::rename(path + ".new", path);
}

void note(const std::string& data, const std::string& line) {
  const int fd = open((data + "/journal").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const std::string text = line + "\n";
  (void)!write(fd, text.data(), text.size());
  close(fd);
}

void wait_for_stop() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  int number = 0;
  sigwait(&stop, &number);
}

bool alive(const fs::path& file) {
  pid_t pid = 0;
  std::ifstream(file) >> pid;
  return pid > 0 && kill(pid, 0) == 0;
}

http::Response nodes(const std::string& data) {
  json::array all;
  for (const auto& entry : fs::directory_iterator(data + "/nodes"))
    all.push_back(json::object{{"name", entry.path().filename().string()},
                               {"linked", alive(entry.path() / "state/worker.pid")}});
  return http::json(200, json::object{{"nodes", all}});
}

int scheduler(std::map<std::string, std::string> flags) {
  const std::string data = flags["data"], listen = flags["listen"];
  if (fs::exists(data + "/do-not-start")) {
    std::cerr << "the database is broken" << std::endl;
    return 7;
  }
  boost::asio::io_context io(1);
  http::Router router;
  router.get("/readyz", [](const http::Request&) { return http::text(200, "ok"); });
  router.get("/v1/nodes", [data](const http::Request&) { return nodes(data); });
  http::Hooks hooks;
  hooks.before = [](http::Request& request) -> std::optional<http::Response> {
    if (request.path == "/readyz" || request.header("Authorization") == "Bearer fake-token")
      return std::nullopt;
    return http::problem(401, "unauthenticated", "no token");
  };
  http::ServerConfig config;
  config.port = static_cast<std::uint16_t>(std::stoi(listen.substr(listen.rfind(':') + 1)));
  http::HttpServer server(io.get_executor(), config, router, hooks);
  server.start();
  write_whole(data + "/token", "fake-token\n");
  write_whole(data + "/scheduler.pid", std::to_string(getpid()));
  note(data, "scheduler on " + std::to_string(server.port()));
  write_whole(data + "/endpoint", "http://127.0.0.1:" + std::to_string(server.port()) + "\n");
  boost::asio::signal_set signals(io, SIGTERM);
  signals.async_wait([&](boost::system::error_code, int) { server.stop([&] { io.stop(); }); });
  io.run();
  note(data, "scheduler stopped");
  return 0;
}

// As the real one: outlives its worker, in a session of its own, and does not obey SIGTERM at once.
void supervisor(const char* self, const std::string& state) {
  if (alive(state + "/supervisor.pid")) return;
  if (fork() != 0) return;
  setsid();
  if (fork() != 0) _exit(0);
  prctl(PR_SET_PDEATHSIG, 0);
  signal(SIGTERM, SIG_IGN);
  unsetenv("TUTTI_UP_DATA");
  setenv("TUTTI_ATTEMPT_DIR", (state + "/attempts/7-1").c_str(), 1);
  const std::string name = fs::path(self).parent_path() / "tutti-supervisor";
  execl(name.c_str(), name.c_str(), state.c_str(), nullptr);
  _exit(1);
}

int worker(const char* self, std::map<std::string, std::string> flags) {
  const std::string state = flags["state-dir"], node = flags["node"];
  const std::string data = fs::path(state).parent_path().parent_path().parent_path();
  const char* double_state = std::getenv("TUTTI_NVML_DOUBLE_STATE");
  std::ifstream gpus(std::string(double_state == nullptr ? "" : double_state) + "/state");
  std::string machine;
  std::getline(gpus, machine);
  note(data, "worker " + node + " for " + flags["scheduler"] + " with " + machine);
  supervisor(self, state);
  if (!fs::exists(data + "/do-not-connect-" + node))
    write_whole(state + "/worker.pid", std::to_string(getpid()));
  wait_for_stop();
  note(data, "worker " + node + " stopped");
  return 0;
}

int gpu_sim(std::map<std::string, std::string> flags) {
  fs::create_directories(flags["state"]);
  write_whole(flags["state"] + "/state",
              flags["gpus"] + " x " + flags["model"] + " in " + flags["node"] + "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = fs::path(argv[0]).filename();
  if (name == "tutti-scheduler") return scheduler(read_flags(argc, argv));
  if (name == "tutti-worker") return worker(argv[0], read_flags(argc, argv));
  if (name == "tutti-gpu-sim") return gpu_sim(read_flags(argc, argv));
  if (name == "tutti-supervisor") {
    write_whole(std::string(argv[1]) + "/supervisor.pid", std::to_string(getpid()));
    while (true) pause();
  }
  return 1;
}
