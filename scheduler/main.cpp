// tutti-scheduler: reads the command line and does what it asks for. What is served, and how, begins in
// serving.h; its parts are in scheduler/service (leader, workers' connections, metrics), api/handlers (REST)
// and db (store). One control thread runs everything but blocking calls.
#include <malloc.h>
#include <sodium.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "daemon/config.h"
#include "daemon/last_words.h"
#include "db/embedded/embedded_postgres.h"
#include "scheduler/check_config.h"
#include "scheduler/flags.h"
#include "scheduler/home.h"
#include "scheduler/service/replay_process.h"
#include "scheduler/serving.h"

using namespace tutti;

namespace {

// What follows from what was said, and from where the program lies.
void complete(Flags& f) {
  if (!f.db_file.empty()) f.db = daemon::first_line_of("--db-file", f.db_file);
  f.embedded = f.db.empty();
  const auto own = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const auto installed = (own / "../share/tutti/console").lexically_normal();
  if (f.console_dir.empty() && std::filesystem::exists(installed / "index.html")) f.console_dir = installed;
}

// --check-config: an exit status. What the parts need at their start is made and thrown away.
int check(const Flags& f, bool full) {
  daemon::Findings found;
  found.look([&] {
    const auto config = server_config(f.http, [](auto, const auto&) {});
    (void)advertised_url(f.replicas, config, config.port);
  });
  found.look([&] { (void)load_fault_table(f.fault_table); });
  found.look([&] { (void)poster_settings(f); });
  found.look([&] { (void)account_settings(f.accounts, ""); });
  found.look([&] { daemon::look_at_secret("--tls-key", f.http.tls.key); });
  found.look([&] { daemon::look_at_secret("--db-file", f.db_file); });
  found.look([&] { check_data(f.data); });
  check_metrics(found, f.metrics);
  found.look([&] { check_console(f.console_dir); });
  found.look(
      [&] { f.embedded ? db::EmbeddedPostgres(embedded_options(f)).look() : check_database(f.db, full); });
  return found.finish("tutti-scheduler");
}

int serve(const CommandLine& line, const Serving::Reread& reread) {
  Home home(line.flags);
  if (line.flags.migrate_only) {
    home.stop();
    return 0;
  }
  Serving serving(line, home, reread);
  return serving.run();
}

// As the flags say: an exit status.
int act(CommandLine& line, const Serving::Reread& reread) {
  try {
    complete(line.flags);
    using Check = daemon::Configuration::Check;
    if (const auto how = line.configuration.check(); how != Check::none)
      return check(line.flags, how == Check::full);
    return serve(line, reread);
  } catch (const std::exception& e) {
    std::cerr << "tutti-scheduler: " << e.what() << '\n';
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && argv[1] == kReplayVerb) return answer_one_replay(argv[2]);
  daemon::end_threads_without_memory("tutti-scheduler");
  // glibc would raise it to the largest buffer that was ever freed; those of batches would then lie among the
  // jobs, and keep the heap from shrinking.
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  CommandLine line;
  if (const auto done = line.configuration.parse(argc, argv)) return *done;
  spdlog::set_level(spdlog::level::from_str(line.flags.log_level));
  spdlog::flush_on(spdlog::level::info);
  if (sodium_init() < 0) {
    std::cerr << "tutti-scheduler: libsodium cannot start\n";
    return 1;
  }
  return act(line, [argc, argv] {
    auto fresh = std::make_unique<CommandLine>();
    fresh->configuration.parse_again(argc, argv);
    return fresh;
  });
}
