#include "scheduler/home.h"

#include "daemon/folder.h"
#include "scheduler/log/log_format.h"
#include "scheduler/service/local_files.h"

namespace tutti {

Home::Home(const Flags& f) {
  set_log_format(f.metrics.log_format, "tutti-scheduler");
  daemon::make_folder("--data", f.data);
  data = std::filesystem::absolute(f.data);
  if (!f.migrate_only) lock.emplace(data);
  token = load_or_make_secret((data / "token").string());
  key = load_or_make_secret((data / "secret").string());
  if (f.embedded) own = std::make_unique<OwnDatabase>(io, embedded_options(f));
  db = own ? own->connection_string() : f.db;
  migrate_when_reachable(db);
}

void Home::stop() {
  if (own) own->stop();
}

}  // namespace tutti
