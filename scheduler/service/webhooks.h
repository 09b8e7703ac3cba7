// Tells webhooks what has happened. A pump reads committed events from where it stopped, puts what is to be
// said into an outbox in the store together with its new place, and sends what is due until each server has
// taken it: at least once, whoever leads (docs/design/0012-webhooks.md).
//
// Called by: scheduler/parts.cpp (wiring), api/handlers (WebhookService), tests (step). Control thread only;
// the store is asked on the side thread, messages go by the poster's thread. It does nothing while this
// scheduler does not lead.
//
// Invariants: (1) an event whose place is behind the cursor has its deliveries in the store; (2) at most
// `at_once` messages are under way to one webhook, and not more than its bucket leaks; (3) a delivery is
// sent again only after its last attempt has been recorded, or by another process.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "api/handlers/webhook_service.h"
#include "scheduler/service/http_poster.h"
#include "scheduler/service/sealed.h"
#include "scheduler/service/side_thread.h"
#include "scheduler/service/webhook_payload.h"

namespace tutti {

struct WebhookSettings {
  Duration poll = std::chrono::seconds(5);  // events are looked for so often, also when nobody tells of any
  Duration gap = std::chrono::milliseconds(100);  // and at most so often, whatever is told
  Duration deadline = std::chrono::seconds(10);   // of one attempt
  int max_attempts = 12;
  Duration first_retry = std::chrono::seconds(5);  // doubles up to the longest, each with jitter
  Duration longest_retry = std::chrono::hours(1);
  double per_second = 10;  // of one webhook
  double burst = 20;
  int at_once = 2;                             // likewise
  std::size_t most_waiting = 10'000;           // likewise; the oldest are given up
  Duration keep = std::chrono::hours(24 * 7);  // what has ended
};

class Webhooks final : public WebhookService {
 public:
  Webhooks(boost::asio::any_io_executor executor, Backend& backend, Aside aside,
           std::shared_ptr<WebhookStore> store, Poster& poster, Sealer sealer, WebhookSettings settings = {});
  ~Webhooks() override;

  void start();  // until stop(); the backend outlives this
  void stop();
  /// Looks at everything once: begins whatever is due and not under way. Its timer does this; so may a test.
  void step();

  // ---- WebhookService
  const std::map<std::string, WebhookRow>* webhooks() const override {
    return loaded_ ? &webhooks_ : nullptr;
  }
  void put(WebhookRow row, std::optional<std::string> secret, Reply<Made> reply) override;
  void remove(const std::string& name, Reply<bool> reply) override;
  void test(const std::string& name, Reply<Probe> reply) override;
  void deliveries(const std::string& name, std::optional<DeliveryState> state, EventId before, int limit,
                  Reply<std::vector<DeliveryRow>> reply) override;

 private:
  using Key = std::pair<std::string, EventId>;
  struct Bucket {
    double tokens = 0;
    Mono at{};
    int under_way = 0;
  };
  struct Due {
    std::vector<DeliveryRow> rows;
    std::optional<Instant> next;
  };
  struct Candidate {  // an event that somebody may want to hear of
    EventRow event;
    std::string_view notice;
    std::optional<JobFacts> job;  // nullopt: to be read
  };

  template <class T>
  void ask(std::function<T(WebhookStore&)> work, std::function<void(Result<T>)> then);
  template <class F>
  auto guarded(F f);  // does nothing once this is gone
  void load();
  void kick();
  void arm(Duration at_most);
  bool anybody_listens() const;

  void pump();
  void on_events(std::vector<EventRow> rows);
  void on_facts(std::vector<Candidate> candidates, EventId seen, bool more);
  void enqueue(std::vector<DeliveryRow> rows, EventId seen, bool more);
  bool wants(const WebhookRow& hook, const Candidate& candidate) const;
  std::string node_name(NodeId id) const;

  void send_due();
  void dispatch(DeliveryRow row, const WebhookRow& hook);
  void answered(DeliveryRow row, const HttpPostAnswer& answer);
  void record(DeliveryRow row);
  bool take_token(const std::string& webhook);
  Duration back_off(int attempts);
  HttpPost message(const WebhookRow& hook, const std::string& secret, std::string id, std::string_view notice,
                   std::string body) const;

  boost::asio::any_io_executor executor_;
  Backend& backend_;
  Aside aside_;
  std::shared_ptr<WebhookStore> store_;
  Poster& poster_;
  Sealer sealer_;
  WebhookSettings settings_;
  boost::asio::steady_timer timer_;
  std::mt19937_64 dice_{std::random_device{}()};
  std::shared_ptr<int> alive_ = std::make_shared<int>();

  bool running_ = false, kicked_ = false;
  bool loaded_ = false, loading_ = false;
  std::uint64_t subscription_ = 0;
  std::map<std::string, WebhookRow> webhooks_;
  EventId cursor_;
  EventId told_;  // the newest that the backend has told of
  bool pumping_ = false;
  bool look_again_ = true;  // events may be behind the cursor
  Mono looked_at_{};
  Mono cursor_stored_at_{};  // where there is nothing to tell it moves in memory, and now and then in the
                             // store
  bool asking_due_ = false;
  std::optional<Instant> next_due_;
  std::map<std::string, Bucket> buckets_;
  std::set<Key> under_way_;              // sent, and not recorded yet
  std::vector<DeliveryRow> unrecorded_;  // the store was away
  Mono forgot_at_{};
};

}  // namespace tutti
