// Load generator for the REST API: N keep-alive connections in one thread, each submits a job, waits for the
// answer, submits the next. Closed loop. Prints one JSON object: acknowledged, seconds, per_second, p50/p99
// ms.
//   rest_load --port P --token T [--connections 64] [--seconds 5] [--batch 1] [--spec FILE] [--mixed 1]
//     [--count N]
// Count: ends when so many jobs are acknowledged, however long that takes.
// Mixed: each connection submits a job, reads it, asks why it waits, lists jobs, cancels it, reads its
// history, and begins anew; what is live stays as many as there are connections.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  int port = 7070;
  int connections = 64;
  int batch = 1;
  bool mixed = false;
  double seconds = 5;
  std::int64_t count = 0;  // 0 = for `seconds`
  std::string token, spec = R"({"name":"bench","run":"true","priority":50,"nodes":1,"resources":{"gpus":8}})";
};

struct Connection {
  int fd = -1;
  std::string in;
  std::size_t need = 0;  // bytes of the answer, 0 = header not complete
  Clock::time_point sent;
  std::int64_t n = 0;
  std::size_t step = 0;  // of the mix
  std::string job;       // the one it has submitted
};

struct Step {
  const char* method;
  const char* path;  // '#' = the job
  const char* status;
};
constexpr Step kMix[] = {{"POST", "/v1/jobs", "201"},          {"GET", "/v1/jobs/#", "200"},
                         {"GET", "/v1/jobs/#/explain", "200"}, {"GET", "/v1/jobs?page_size=20", "200"},
                         {"POST", "/v1/jobs/#:cancel", "200"}, {"GET", "/v1/jobs/#/events", "200"}};
constexpr std::size_t kSteps = std::size(kMix);

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

Options read_options(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = argv[i + 1];
    if (flag == "--port")
      o.port = std::atoi(value);
    else if (flag == "--connections")
      o.connections = std::atoi(value);
    else if (flag == "--count")
      o.count = std::atoll(value);
    else if (flag == "--batch")
      o.batch = std::atoi(value);
    else if (flag == "--mixed")
      o.mixed = std::atoi(value) != 0;
    else if (flag == "--seconds")
      o.seconds = std::atof(value);
    else if (flag == "--token")
      o.token = value;
    else if (flag == "--spec") {
      std::ifstream in(value);
      o.spec.assign(std::istreambuf_iterator<char>(in), {});
    } else {
      std::fprintf(stderr, "rest_load: unknown flag %s\n", flag.c_str());
      std::exit(2);
    }
  }
  return o;
}

class Load {
 public:
  explicit Load(Options o)
      : o_(std::move(o)), epoll_(::epoll_create1(0)), connections_(static_cast<std::size_t>(o_.connections)) {
    if (o_.batch == 1) {
      body_ = o_.spec;
    } else {
      body_ = "{\"jobs\":[";
      for (int i = 0; i < o_.batch; ++i) body_ += (i > 0 ? "," : "") + o_.spec;
      body_ += "]}";
    }
  }

  int run() {
    for (std::size_t i = 0; i < connections_.size(); ++i) open(i);
    const auto begin = Clock::now();
    const auto end =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(o_.seconds));
    for (std::size_t i = 0; i < connections_.size(); ++i) send(i);
    std::vector<epoll_event> events(connections_.size());
    while (o_.count > 0 ? acknowledged_ < o_.count && errors_ == 0 : Clock::now() < end) {
      const int n = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 100);
      for (int i = 0; i < n; ++i) receive(events[static_cast<std::size_t>(i)].data.u64);
    }
    report(std::chrono::duration<double>(Clock::now() - begin).count());
    return errors_ == 0 ? 0 : 1;
  }

 private:
  void open(std::size_t i) {
    Connection& c = connections_[i];
    c.fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(o_.port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(c.fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) die("connect");
    const int on = 1;
    ::setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u64 = i;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &e);
  }

  void send(std::size_t i) {
    Connection& c = connections_[i];
    if (o_.mixed) return write(c, mixed_request(i, c));
    std::string request = o_.batch == 1 ? "POST /v1/jobs HTTP/1.1\r\n" : "POST /v1/jobs:batch HTTP/1.1\r\n";
    request += "Host: bench\r\nAuthorization: Bearer " + o_.token +
               "\r\nContent-Type: application/json\r\nIdempotency-Key: " + std::to_string(::getpid()) + "-" +
               std::to_string(i) + "-" + std::to_string(c.n++) +
               "\r\nContent-Length: " + std::to_string(body_.size()) + "\r\n\r\n" + body_;
    write(c, request);
  }

  std::string mixed_request(std::size_t i, Connection& c) {
    const Step& step = kMix[c.step];
    std::string path = step.path;
    if (const auto at = path.find('#'); at != std::string::npos) path.replace(at, 1, c.job);
    std::string request = std::string(step.method) + " " + path +
                          " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + o_.token + "\r\n";
    if (std::strcmp(step.method, "POST") != 0) return request + "\r\n";
    const std::string body = c.step == 0 ? body_ : "{}";
    return request + "Content-Type: application/json\r\nIdempotency-Key: " + std::to_string(::getpid()) +
           "-" + std::to_string(i) + "-" + std::to_string(c.n++) +
           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  static void write(Connection& c, const std::string& request) {
    c.sent = Clock::now();
    std::size_t done = 0;
    while (done < request.size()) {
      const ssize_t n = ::send(c.fd, request.data() + done, request.size() - done, MSG_NOSIGNAL);
      if (n <= 0) die("send");
      done += static_cast<std::size_t>(n);
    }
  }

  void receive(std::size_t i) {
    Connection& c = connections_[i];
    char buffer[1 << 16];
    const ssize_t n = ::recv(c.fd, buffer, sizeof buffer, 0);
    if (n <= 0) die("recv");
    c.in.append(buffer, static_cast<std::size_t>(n));
    if (c.need == 0) {
      const auto head = c.in.find("\r\n\r\n");
      if (head == std::string::npos) return;
      auto at = c.in.find("Content-Length: ");
      if (at == std::string::npos || at > head) at = c.in.find("content-length: ");
      c.need = head + 4 + std::strtoul(c.in.c_str() + at + 16, nullptr, 10);
    }
    if (c.in.size() < c.need) return;
    const char* expected = o_.mixed ? kMix[c.step].status : o_.batch == 1 ? "201" : "200";
    const bool ok = c.in.compare(9, 3, expected) == 0;
    if (ok) {
      acknowledged_ += o_.batch;
    } else if (errors_++ == 0) {
      std::fprintf(stderr, "rest_load: %s\n", c.in.c_str());
    }
    if (ok) latencies_.push_back(std::chrono::duration<double, std::milli>(Clock::now() - c.sent).count());
    if (o_.mixed && ok) next_step(c);
    if (o_.mixed && !ok) c.step = 0;  // without a job nothing of the rest means anything
    c.in.erase(0, c.need);
    c.need = 0;
    send(i);
  }

  void next_step(Connection& c) {
    const double took = std::chrono::duration<double, std::milli>(Clock::now() - c.sent).count();
    by_step_[c.step].push_back(took);
    if (c.step == 0) {
      const auto at = c.in.find("\"id\":");
      c.job =
          at == std::string::npos ? "0" : std::to_string(std::strtoll(c.in.c_str() + at + 5, nullptr, 10));
    }
    c.step = (c.step + 1) % kSteps;
  }

  static double quantile(std::vector<double>& sorted, double q) {
    return sorted.empty() ? 0.0
                          : sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1))];
  }

  void report_mix() {
    std::printf("\"steps\":[");
    for (std::size_t i = 0; i < kSteps; ++i) {
      auto& times = by_step_[i];
      std::sort(times.begin(), times.end());
      std::printf("%s{\"method\":\"%s\",\"path\":\"%s\",\"n\":%zu,\"p50_ms\":%.3f,\"p99_ms\":%.3f}",
                  i > 0 ? "," : "", kMix[i].method, kMix[i].path, times.size(), quantile(times, 0.5),
                  quantile(times, 0.99));
    }
    std::printf("],");
  }

  void report(double seconds) {
    std::sort(latencies_.begin(), latencies_.end());
    auto at = [&](double q) { return quantile(latencies_, q); };
    std::printf("{");
    if (o_.mixed) report_mix();
    std::printf(
        "\"acknowledged\":%ld,\"errors\":%ld,\"seconds\":%.3f,\"per_second\":%.0f,\"p50_ms\":%.3f,\"p99_"
        "ms\":%.3f}\n",
        static_cast<long>(acknowledged_), static_cast<long>(errors_), seconds,
        static_cast<double>(acknowledged_) / seconds, at(0.5), at(0.99));
  }

  Options o_;
  int epoll_;
  std::vector<Connection> connections_;
  std::string body_;
  std::vector<double> latencies_;
  std::vector<double> by_step_[kSteps];
  std::int64_t acknowledged_ = 0, errors_ = 0;
};

}  // namespace

int main(int argc, char** argv) { return Load(read_options(argc, argv)).run(); }
