#include "worker/service/join.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <thread>

#include "worker/supervisor/fd.h"

namespace tutti::worker {
namespace {

namespace json = boost::json;

constexpr const char* kFile = "/credential";
constexpr std::size_t kMostAnswer = 64 << 10;

struct Kept {
  std::string node, token;
  std::string joined_with;  // id of the join token: another one means to join anew
};

std::string id_of(const std::string& join_token) { return join_token.substr(0, join_token.rfind('_')); }

Kept read_kept(const std::string& state_dir) {
  std::ifstream in(state_dir + kFile);
  Kept kept;
  std::getline(in, kept.node);
  std::getline(in, kept.token);
  std::getline(in, kept.joined_with);
  return kept;
}

[[noreturn]] void fail(const std::string& path) {
  throw std::runtime_error("cannot keep the node's credential in " + path + ": " + std::strerror(errno));
}

// Written under another name, synced, renamed: half a credential would lock the node out.
void keep(const std::string& state_dir, const Kept& kept) {
  std::filesystem::create_directories(state_dir);
  const std::string path = state_dir + kFile, fresh = path + ".new";
  const supervisor::Fd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.get() < 0) fail(fresh);
  const std::string text = kept.node + "\n" + kept.token + "\n" + kept.joined_with + "\n";
  if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      fsync(file.get()) != 0 || rename(fresh.c_str(), path.c_str()) != 0)
    fail(path);
  const supervisor::Fd folder(open(state_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) fsync(folder.get());
}

std::size_t take(char* data, std::size_t size, std::size_t count, void* into) {
  auto& text = *static_cast<std::string*>(into);
  if (text.size() + size * count > kMostAnswer) return 0;
  text.append(data, size * count);
  return size * count;
}

struct Answer {
  long status = 0;  // 0: nobody answered
  std::string body, complaint;
};

// Without a body it is a GET.
Answer ask(const std::string& url, const std::string& body, const std::string& ca_file) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) throw std::runtime_error("libcurl cannot start");
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), curl_slist_free_all);
  Answer answer;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 10L);
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  if (!body.empty()) curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer.body);
  if (!ca_file.empty()) curl_easy_setopt(curl.get(), CURLOPT_CAINFO, ca_file.c_str());
  const CURLcode code = curl_easy_perform(curl.get());
  if (code == CURLE_OK)
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  else
    answer.complaint = url + ": " + curl_easy_strerror(code);
  return answer;
}

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The token of a 201; throws when the answer is a refusal; nothing when asking again may help.
std::string token_in(const Answer& answer, const std::string& node) {
  if (answer.status == 0 || answer.status >= 500 || answer.status == 429) return "";
  boost::system::error_code code;
  const json::value body = json::parse(answer.body, code);
  const auto text = [&](const char* name) {
    const auto* value = code || !body.is_object() ? nullptr : body.get_object().if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
  };
  if (answer.status == 201 && !text("token").empty()) return text("token");
  throw Refused("the scheduler does not let " + node + " join: " + text("detail") +
                (text("hint").empty() ? "" : " (" + text("hint") + ")"));
}

std::string join(const JoinRequest& request, const std::string& with) {
  const std::string body =
      json::serialize(json::object{{"token", request.join_token}, {"node", request.node}});
  const auto until = std::chrono::steady_clock::now() + request.patience;
  std::string complaint;
  for (auto pause = std::chrono::milliseconds(200);;
       pause = std::min(pause * 2, std::chrono::milliseconds(5000))) {
    for (const auto& url : request.schedulers) {
      const Answer answer = ask(url + "/v1/nodes:join", body, request.ca_file);
      if (const std::string token = token_in(answer, request.node); !token.empty()) {
        keep(request.state_dir, {request.node, token, with});
        return token;
      }
      complaint =
          answer.complaint.empty() ? url + " answers " + std::to_string(answer.status) : answer.complaint;
    }
    if (std::chrono::steady_clock::now() + pause > until)
      throw std::runtime_error("no scheduler lets this node join: " + complaint);
    std::this_thread::sleep_for(pause);  // the wait between two tries, nothing else happens yet
  }
}

}  // namespace

std::string credential_of(const JoinRequest& request) {
  const Kept kept = read_kept(request.state_dir);
  const std::string with = id_of(request.join_token);
  const bool ours = !kept.token.empty() && kept.node == request.node;
  if (ours && (with.empty() || with == kept.joined_with)) return kept.token;
  if (request.join_token.empty()) return "";
  try {
    return join(request, with);
  } catch (const Refused& e) {
    if (!ours) throw;
    spdlog::warn("{}; it goes on with the credential that it has", e.what());
    return kept.token;
  }
}

void ask_whether_alive(const std::string& url, const std::string& ca_file) {
  const Answer answer = ask(url + "/livez", "", ca_file);
  if (answer.status == 200) return;
  throw std::runtime_error("--scheduler " + (answer.complaint.empty()
                                                 ? url + ": /livez answers " + std::to_string(answer.status)
                                                 : answer.complaint));
}

}  // namespace tutti::worker
