// Part of worker.h: what the node watch finds goes to the core; the gate and inspections that the
// core wants are run.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <iterator>

#include "api/wire/messages.h"
#include "worker/service/machine.h"
#include "worker/service/worker.h"
#include "worker/supervisor/files.h"

namespace tutti::worker {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {
constexpr std::int64_t kBeforeFailureUs = 600'000'000;
constexpr std::size_t kMostKernelLog = 4 << 20;  // bytes; the ring holds less
}  // namespace

void Worker::start_node_watch() {
  read_inspection();
  NodeWatch::Events events;
  events.on_condition = [this](const auto& kind, const auto& subject, const auto& detail) {
    core_.on_condition(read_clocks(), kind, subject, detail);
    settle();
  };
  events.on_over = [this](const auto& kind, const auto& subject) {
    core_.on_condition_over(read_clocks(), kind, subject);
    settle();
  };
  events.on_incident = [this](const auto& kind, const auto& detail) {
    core_.on_incident(read_clocks(), kind, detail);
    settle();
  };
  events.on_finding = [this](const node::KernelFinding& finding) {
    core_.on_kernel_finding(read_clocks(), finding);
    settle();
  };
  events.on_log_read = [this](std::uint64_t number) { save_log_number(number); };
  log_number_saved_ = read_log_number();
  node_ = std::make_unique<NodeWatch>(io_, settings_, log_number_saved_, std::move(events));
  node_->start();
}

// Records are numbered from the boot on. A worker that starts anew goes on after the last one of which all
// has been said, or what came between its former life and this one would be taken for old.
std::optional<std::uint64_t> Worker::read_log_number() const {
  const auto text = supervisor::read_file(settings_.state_dir + "/kernel_log.json", 4096);
  json::error_code ec;
  const auto v = json::parse(text.value_or(""), ec);
  const auto* o = ec ? nullptr : v.if_object();
  const auto* boot = o ? o->if_contains("boot_id") : nullptr;
  const auto* number = o ? o->if_contains("number") : nullptr;
  if (!boot || !number || *boot != json::value(settings_.boot_id)) return std::nullopt;
  json::error_code no_number;
  const auto n = number->to_number<std::uint64_t>(no_number);
  return no_number ? std::nullopt : std::optional(n);
}

void Worker::save_log_number(std::uint64_t number) {
  if (log_number_saved_ == number || core_.holds_faults()) return;
  log_number_saved_ = number;
  write_later(settings_.state_dir + "/kernel_log.json",
              json::serialize(json::object{{"boot_id", settings_.boot_id}, {"number", number}}) + "\n");
}

void Worker::act(RunGate& a) {
  const auto view = core_.find(a.key);
  if (!view || !view->spec) return;
  std::vector<std::string> folders;
  const auto* user = user_of(a.key);
  if (user != nullptr && !view->spec->checkpoint.dir.empty()) folders.push_back(view->spec->checkpoint.dir);
  node_->gate(std::move(folders), user ? *user : Account{}, [this, key = a.key](const std::string& why) {
    core_.on_gate(read_clocks(), key, why);
    settle();
  });
}

void Worker::act(RunInspection& a) {
  const auto path = settings_.state_dir + "/inspection.json";
  node_->inspect([this, path, request = a.request](std::vector<protocol::CheckResult> checks) {
    const auto now = read_clocks();
    protocol::InspectionReport report;
    report.request = request.request;
    report.trigger = request.trigger;
    report.checks = core_.check_gpus();
    std::ranges::move(checks, std::back_inserter(report.checks));
    core_.on_inspection(now, report, now.wall, false);
    settle();
    const json::object file = {{"ended_at_us", now.wall.time_since_epoch().count()},
                               {"report", json::parse(wire::encode(protocol::FromWorker(report)))}};
    write_later(path, json::serialize(file));
  });
}

// The last report is told again after a restart; what cannot be read is as good as none.
void Worker::read_inspection() {
  const auto text = supervisor::read_file(settings_.state_dir + "/inspection.json");
  if (!text) return;
  json::error_code ec;
  const auto file = json::parse(*text, ec);
  const auto* object = ec ? nullptr : file.if_object();
  const auto* at = object ? object->if_contains("ended_at_us") : nullptr;
  const auto* inner = object ? object->if_contains("report") : nullptr;
  if (!at || !at->is_int64() || !inner) return;
  const auto message = wire::decode_from_worker(json::serialize(*inner));
  if (!message) return;
  if (const auto* report = std::get_if<protocol::InspectionReport>(&message.value()))
    core_.on_inspection(read_clocks(), *report, Instant(Duration(at->get_int64())), true);
}

// At its end, and once more when that is committed: a driver may speak after the ranks have died of what it
// has to say. If the ring no longer has all that was kept, that stays.
void Worker::keep_kernel_log(const protocol::AttemptStatus& ended) {
  if (!node_ || !ended.failure || !dirs_.exists(ended.key)) return;
  const auto at = ended.failure->boot_us > 0 ? ended.failure->boot_us : to_boot_us(read_clocks());
  auto text = node_->kernel_slice(at - kBeforeFailureUs, to_boot_us(read_clocks()));
  if (text.empty()) return;
  asio::post(disk_, [dir = dirs_.path(ended.key) + "/evidence", text = std::move(text)] {
    const std::string path = dir + "/kernel.log";
    const auto kept = supervisor::read_file(path, kMostKernelLog);
    if (kept && !text.starts_with(*kept)) return;
    mkdir(dir.c_str(), 0700);
    try {
      supervisor::replace_file(path, text, false, 0600);
    } catch (const std::exception& e) {
      spdlog::warn("{}: {}", path, e.what());
    }
  });
}

}  // namespace tutti::worker
