// Which of several servers a session goes to. libpq asks the hosts of a connection string in turn and takes
// the first that is read-write. After a fail-over that may be the old primary: one that nobody has stopped
// takes connections and answers reads, but finishes no write, since its standby has left it. So a server that
// did not answer in time is asked last from then on, and sessions that only follow the writer leave it.
//
// Called by: Connection, from any thread. One memory for the process.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace tutti::db {

class SilentServers {
 public:
  static SilentServers& of_process();

  // `server`: "host:port". There are as many as connection strings name.
  void add(const std::string& server);
  // When it was added last, as a number that grows; 0 = never.
  std::uint64_t last(const std::string& server) const;

 private:
  mutable std::mutex mutex_;
  std::uint64_t newest_ = 0;
  std::map<std::string, std::uint64_t> last_;
};

std::string server_name(const std::string& host, const std::string& port);

struct HostLists {
  std::string host, hostaddr, port;  // "" = as the connection string has it
};
// The hosts of that string, those that were silent behind the others, the latest one last. All "" if it names
// one host or none.
HostLists silent_last(const std::string& connection_string, const SilentServers& silent);

}  // namespace tutti::db
