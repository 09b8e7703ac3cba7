#include "worker/supervisor/rank_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <boost/json.hpp>
#include <csignal>
#include <cstdio>

#include "worker/supervisor/checkpoint_manifest.h"
#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

constexpr int kMaxAccepts = 256;  // a round: whoever connects for ever must not stop the timers
constexpr std::size_t kMaxLine = 4096;

struct Report {
  std::int32_t rank = -1;
  std::int32_t world = 0;
  pid_t program = 0;
  bool ended = false;
  Exit exit;
  std::int64_t boot_us = 0;
};

std::optional<Report> parse_report(std::string_view line) {
  boost::json::error_code error;
  const auto v = boost::json::parse(boost::json::string_view(line.data(), line.size()), error);
  if (error || !v.is_object()) return std::nullopt;
  const auto number = [&](const char* name, std::int64_t absent) {
    const auto* field = v.get_object().if_contains(name);
    return field != nullptr && field->is_int64() ? field->get_int64() : absent;
  };
  Report report;
  report.rank = static_cast<std::int32_t>(number("rank", -1));
  report.program = static_cast<pid_t>(number("pid", 0));
  report.world = static_cast<std::int32_t>(number("world", 0));
  report.ended = v.get_object().contains("exit");
  report.exit = {static_cast<int>(number("exit", 0)), static_cast<int>(number("signal", 0))};
  report.boot_us = number("boot_us", 0);
  if (report.rank < 0) return std::nullopt;
  return report;
}

std::string signal_line(int signal) { return "{\"signal\":" + std::to_string(signal) + "}\n"; }
std::string once_line(int signal) { return "{\"once\":" + std::to_string(signal) + "}\n"; }

}  // namespace

RankServer::RankServer(Poller& poller, Fd listener, uid_t user, std::size_t max_peers, Events events)
    : poller_(poller),
      listener_(std::move(listener)),
      user_(user),
      max_peers_(max_peers),
      events_(std::move(events)) {
  poller_.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_all(); });
}

RankServer::~RankServer() { poller_.remove(listener_.get()); }

void RankServer::accept_all() {
  for (int i = 0; i < kMaxAccepts; ++i) {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    ucred who{};
    socklen_t length = sizeof who;
    if (peers_.size() >= max_peers_ || getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0 ||
        (who.uid != user_ && who.uid != 0))
      continue;
    peers_.emplace_back();
    const Where me = std::prev(peers_.end());
    me->keeper = who.pid;
    me->peer = std::make_unique<Peer>(
        poller_, std::move(fd), Peer::Limits{kMaxLine, kMaxLine},
        [this, me](std::string_view line) { on_line(me, line); }, [this, me] { on_gone(me); });
  }
}

void RankServer::drain() {
  accept_all();
  for (Where it = peers_.begin(); it != peers_.end();) {
    const Where me = it++;  // it may be erased
    me->peer->pump();
  }
}

void RankServer::on_line(Where me, std::string_view line) {
  if (line == kAskEpoch) {
    me->peer->send(events_.epoch() + "\n");
    return;
  }
  const auto report = parse_report(line);
  if (!report) {
    std::fprintf(stderr, "rank.sock: nonsense from pid %d\n", me->keeper);
    shutdown(me->peer->fd(), SHUT_RDWR);
    return;
  }
  if (me->rank < 0) {
    if (!events_.up(report->rank, report->world, report->program)) {
      std::fprintf(stderr, "rank.sock: no place for rank %d of pid %d\n", report->rank, me->keeper);
      shutdown(me->peer->fd(), SHUT_RDWR);  // its keeper then ends its program
      return;
    }
    me->rank = report->rank;
    ranks_.insert(report->rank);
    keepers_.insert(me->keeper);
    if (signal_ != 0) me->peer->send(signal_line(signal_));
  } else if (report->ended && !me->ended) {
    me->ended = true;
    events_.ended(me->rank, report->exit, false, report->boot_us);
  }
}

void RankServer::on_gone(Where me) {
  const std::int32_t rank = me->ended ? -1 : me->rank;
  peers_.erase(me);
  // Its program has died with it (PR_SET_PDEATHSIG). Told before the keeper itself is reaped, so after no
  // report.
  if (rank >= 0) events_.ended(rank, Exit{0, SIGKILL}, true, boot_us());
}

void RankServer::signal_all(int signal) {
  signal_ = signal;
  for (Rank& r : peers_)
    if (r.rank >= 0 && !r.ended) r.peer->send(signal_line(signal));
}

void RankServer::signal_once(int signal) {
  for (Rank& r : peers_)
    if (r.rank >= 0 && !r.ended) r.peer->send(once_line(signal));
}

}  // namespace tutti::supervisor
