#include "training/charlm/checkpoint.h"

#include <array>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "training/charlm/durable_file.h"
#include "training/charlm/fingerprint.h"

namespace tutti::charlm {

namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

constexpr const char* kCompleteName = "COMPLETE.json";
constexpr std::array<char, 8> kMagic = {'C', 'H', 'A', 'R', 'L', 'M', '0', '1'};

// The head of a shard, as it lies in the file (little endian, like every machine this runs on). The payload
// follows, then the checksum of both.
struct ShardHead {
  std::array<char, 8> magic = kMagic;
  std::uint64_t step = 0;
  std::uint64_t model = 0;
  std::uint64_t text = 0;
  std::uint64_t seed = 0;
  std::uint64_t shard = 0;
  std::uint64_t shards = 0;
  std::uint64_t begin = 0;  // the slice [begin, end) of the values
  std::uint64_t end = 0;
  std::uint64_t values = 0;  // of all shards together
};
static_assert(sizeof(ShardHead) == 80 && std::is_trivially_copyable_v<ShardHead>);

fs::path shard_name(std::uint64_t shard, std::uint64_t shards) {
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "shard-%05llu-of-%05llu.bin",
                static_cast<unsigned long long>(shard), static_cast<unsigned long long>(shards));
  return name.data();
}

[[noreturn]] void refuse(const fs::path& what, const std::string& why) {
  throw Failure(Exit::checkpoint_refused, "checkpoint refused: " + what.string() + ": " + why);
}

std::vector<float> flatten(const TrainingState& state) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(state.parameters.size()) * 3);
  for (const Eigen::VectorXf* part : {&state.parameters, &state.first_moment, &state.second_moment}) {
    values.insert(values.end(), part->data(), part->data() + part->size());
  }
  return values;
}

std::optional<json::object> read_complete(const fs::path& step_dir) {
  std::ifstream in(step_dir / kCompleteName, std::ios::binary);
  if (!in) return std::nullopt;
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return json::object{};
  return value.as_object();
}

std::int64_t integer_at(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  boost::system::error_code error;
  const auto number = value == nullptr ? std::int64_t{-1} : value->to_number<std::int64_t>(error);
  return error ? -1 : number;
}

// Rank 0, before any rank writes: a step directory of an earlier attempt stops being a checkpoint before its
// shards are replaced, else a crash half-way would leave a COMPLETE.json over a mixture.
void prepare_step_dir(const fs::path& step_dir, std::int64_t epoch) {
  std::error_code error;
  fs::create_directories(step_dir, error);
  if (error) throw Failure(Exit::io, "cannot create " + step_dir.string() + ": " + error.message());
  if (const auto old = read_complete(step_dir)) {
    if (integer_at(*old, "epoch") > epoch) {
      throw Failure(Exit::io,
                    step_dir.string() + " belongs to a later epoch than ours, this attempt is over");
    }
    fs::remove(step_dir / kCompleteName, error);
    if (error) throw Failure(Exit::io, "cannot remove the old " + step_dir.string() + ": " + error.message());
    sync_directory(step_dir);
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(step_dir, error)) {
    if (entry.path().filename().string().starts_with("shard-")) fs::remove(entry.path(), error);
  }
  sync_directory(step_dir.parent_path());
}

void commit(const fs::path& step_dir, const TrainingState& state, int shards, std::int64_t bytes,
            std::int64_t epoch) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const json::object complete{{"step", state.step},
                              {"time", std::chrono::duration_cast<std::chrono::seconds>(now).count()},
                              {"shards", shards},
                              {"bytes", bytes},
                              {"epoch", epoch}};
  write_file(step_dir / kCompleteName, json::serialize(complete) + "\n", Durability::survives_power_loss);
}

// Checks one shard and copies its slice into `values`.
void load_shard(const fs::path& path, const ShardHead& expected, std::vector<float>& values) {
  std::ifstream in(path, std::ios::binary);
  if (!in) refuse(path, "missing or unreadable");
  const std::vector<char> raw((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (raw.size() < sizeof(ShardHead) + sizeof(std::uint64_t)) refuse(path, "truncated");

  const std::size_t body = raw.size() - sizeof(std::uint64_t);
  std::uint64_t checksum = 0;
  std::memcpy(&checksum, raw.data() + body, sizeof checksum);
  if (Fingerprint{}.add(std::as_bytes(std::span(raw.data(), body))).value() != checksum) {
    refuse(path, "checksum does not match, the file is corrupt or truncated");
  }
  ShardHead head;
  std::memcpy(&head, raw.data(), sizeof head);
  if (head.magic != kMagic) refuse(path, "not a charlm shard");
  if (head.model != expected.model || head.values != expected.values) refuse(path, "it is of another model");
  if (head.text != expected.text) refuse(path, "it was trained on another text");
  if (head.seed != expected.seed) refuse(path, "it was trained with another seed");
  if (head.step != expected.step || head.shard != expected.shard || head.shards != expected.shards) {
    refuse(path, "it does not belong to this checkpoint");
  }
  if (head.begin > head.end || head.end > values.size() ||
      body != sizeof head + (head.end - head.begin) * sizeof(float)) {
    refuse(path, "its size does not match its head");
  }
  if (head.begin != head.end) {
    std::memcpy(values.data() + head.begin, raw.data() + sizeof head, body - sizeof head);
  }
}

}  // namespace

std::uint64_t fingerprint_of(const TrainingState& state) {
  const std::vector<float> values = flatten(state);
  return Fingerprint{}.add(state.step).add(std::as_bytes(std::span(values))).value();
}

std::uint64_t write_shard(const fs::path& step_dir, const TrainingState& state, const RunIdentity& identity,
                          int shard, int shards) {
  const std::vector<float> values = flatten(state);
  ShardHead head;
  head.step = state.step;
  head.model = identity.model;
  head.text = identity.text;
  head.seed = identity.seed;
  head.shard = static_cast<std::uint64_t>(shard);
  head.shards = static_cast<std::uint64_t>(shards);
  head.values = values.size();
  head.begin = head.values * head.shard / head.shards;
  head.end = head.values * (head.shard + 1) / head.shards;

  std::vector<std::byte> raw(sizeof head);
  std::memcpy(raw.data(), &head, sizeof head);
  const auto slice = std::as_bytes(std::span(values).subspan(head.begin, head.end - head.begin));
  raw.insert(raw.end(), slice.begin(), slice.end());
  const std::uint64_t checksum = Fingerprint{}.add(std::span<const std::byte>(raw)).value();
  const auto tail = std::as_bytes(std::span(&checksum, 1));
  raw.insert(raw.end(), tail.begin(), tail.end());
  write_file(step_dir / shard_name(head.shard, head.shards), raw, Durability::survives_power_loss);
  return raw.size();
}

void save_checkpoint(Collective& gang, const fs::path& checkpoint_dir, const TrainingState& state,
                     const RunIdentity& identity, std::int64_t epoch) {
  const fs::path step_dir = checkpoint_dir / ("step-" + std::to_string(state.step));
  if (gang.rank() == 0) prepare_step_dir(step_dir, epoch);
  // Doubles as the barrier between preparing and writing.
  require_agreement(gang, fingerprint_of(state), "the state at step " + std::to_string(state.step));

  auto bytes = static_cast<std::int64_t>(write_shard(step_dir, state, identity, gang.rank(), gang.size()));
  gang.sum({&bytes, 1});  // every rank got here: all shards are durable
  if (gang.rank() == 0) commit(step_dir, state, gang.size(), bytes, epoch);
  std::int64_t committed = 1;
  gang.sum({&committed, 1});  // no rank may leave before the commit: a planned stop ends the process next
}

TrainingState load_checkpoint(const fs::path& step_dir, const RunIdentity& identity, std::size_t parameters) {
  const auto complete = read_complete(step_dir);
  if (!complete) refuse(step_dir, "no COMPLETE.json: it was never finished");
  const std::int64_t step = integer_at(*complete, "step");
  const std::int64_t shards = integer_at(*complete, "shards");
  if (step < 0 || shards < 1 || shards > 1'000'000) refuse(step_dir / kCompleteName, "it makes no sense");

  std::vector<float> values(parameters * 3);
  ShardHead expected;
  expected.step = static_cast<std::uint64_t>(step);
  expected.model = identity.model;
  expected.text = identity.text;
  expected.seed = identity.seed;
  expected.shards = static_cast<std::uint64_t>(shards);
  expected.values = values.size();
  for (expected.shard = 0; expected.shard < expected.shards; ++expected.shard) {
    load_shard(step_dir / shard_name(expected.shard, expected.shards), expected, values);
  }

  TrainingState state;
  state.step = expected.step;
  const auto count = static_cast<std::ptrdiff_t>(parameters);
  state.parameters = Eigen::Map<const Eigen::VectorXf>(values.data(), count);
  state.first_moment = Eigen::Map<const Eigen::VectorXf>(values.data() + count, count);
  state.second_moment = Eigen::Map<const Eigen::VectorXf>(values.data() + 2 * count, count);
  return state;
}

}  // namespace tutti::charlm
