#include "worker/supervisor/secrets_file.h"

#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <stdexcept>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostBytes = 8 << 20;

std::string path_in(const std::string& dir) { return dir + "/secrets.json"; }

}  // namespace

void write_secrets(const std::string& dir, const Secrets& secrets) {
  json::object o;
  for (const auto& [name, value] : secrets) o[name] = value;
  replace_file(path_in(dir), json::serialize(o), true, 0600);
}

Secrets read_secrets(const std::string& dir) {
  const auto path = path_in(dir);
  const auto text = read_file(path, kMostBytes);
  if (!text && errno == ENOENT) return {};
  if (!text) throw std::runtime_error(path + " cannot be read");
  json::error_code ec;
  const auto v = json::parse(*text, ec);
  if (ec || !v.is_object()) throw std::runtime_error(path + " is damaged");
  Secrets out;
  for (const auto& [name, value] : v.get_object())
    if (value.is_string())
      out[std::string(std::string_view(name))] = std::string(std::string_view(value.get_string()));
  return out;
}

}  // namespace tutti::supervisor
