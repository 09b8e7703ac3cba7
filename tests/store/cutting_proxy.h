// Stands between a store and PostgreSQL on a unix socket and cuts the connection at the moment a test wants:
// the only way to lose a connection *during* COMMIT on purpose.
//
//   CuttingProxy proxy(real_socket_path);
//   PgStore store(proxy.connection_string("db"));
//   proxy.cut_at_next_commit(CuttingProxy::Cut::before_server);
#pragma once

#include <atomic>
#include <condition_variable>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "tests/store/pg_fixture.h"

namespace tutti::test {

class CuttingProxy {
 public:
  enum class Cut : int {
    none,
    before_server,  // the transaction never reaches the server
    after_server,   // the server has carried it out, its answer never reaches the client
    silence,        // nothing reaches the server, nothing is closed: as if packets were lost
    half_way        // the transaction is at the server, perhaps waiting there, when the client is cut off
  };

  explicit CuttingProxy(std::string real_socket);
  ~CuttingProxy();

  std::string connection_string(const std::string& database) const;
  void cut_at_next_commit(Cut cut) { cut_ = cut; }
  // For half_way: cuts the client off now.
  void cut_now();

 private:
  void accept_loop();
  void serve(int client);

  TemporaryDirectory directory_;
  std::string real_;
  int listener_ = -1;
  int stop_[2] = {-1, -1};
  std::atomic<Cut> cut_{Cut::none};
  std::atomic<int> held_client_{-1};
  std::list<std::thread> sessions_;  // of the accept thread
  std::thread thread_;
};

}  // namespace tutti::test
