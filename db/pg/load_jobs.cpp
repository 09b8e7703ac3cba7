#include "db/pg/load_jobs.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "db/checked_store.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

constexpr std::size_t kRecent = 1'000;       // texts of jobs' own rows, that are looked for among the next
constexpr std::size_t kTextsAtOnce = 1'000;  // hashes of one question

class Loading {
 public:
  Loading(Snapshot& into, StoredArrays& arrays) : into_(into), arrays_(arrays) {}

  void take(RowReader& row) {
    const auto hash = row.bytes_or_null();
    const auto text = row.bytes_or_null();
    JobRow job = read_job(row);
    take_tasks(job.id);
    into_.specs.places.push_back(text   ? place_of(*text)
                                 : hash ? place_of_hash(*hash)
                                        : place_of(kNoSpec));  // removed by hand
    into_.jobs.push_back(std::move(job));
  }
  // Those below it that have no rows of their own.
  void take_tasks(JobId below) {
    arrays_.below(below, [&](JobRow job, std::string text) {
      into_.jobs.push_back(std::move(job));
      into_.specs.add(std::move(text));
    });
  }

  void fetch_texts(Connection& connection, Connection::Deadline until) {
    for (std::size_t at = 0; at < hashes_.size(); at += kTextsAtOnce) {
      const std::size_t end = std::min(hashes_.size(), at + kTextsAtOnce);
      ArrayParam asked(SqlType::bytea, end - at);
      for (std::size_t i = at; i < end; ++i) asked.add_bytea({hashes_[i]->first});
      Params params;
      params.array(std::move(asked));
      const Result r = connection.run(
          Statement{"load_texts", "SELECT hash, spec_json FROM spec_text WHERE hash = ANY($1::bytea[])"},
          &params, until);
      for (int i = 0; i < r.rows(); ++i) {
        RowReader row(r, i);
        const auto place = by_hash_.find(std::string(row.bytes()));
        if (place != by_hash_.end()) into_.specs.texts[place->second] = row.text();
      }
    }
  }

 private:
  std::uint32_t add(std::string_view text) {
    into_.specs.texts.emplace_back(text);
    return static_cast<std::uint32_t>(into_.specs.texts.size() - 1);
  }
  // Rows of a time before texts were shared, or of the first job with a text.
  std::uint32_t place_of(std::string_view text) {
    const std::size_t key = std::hash<std::string_view>{}(text);
    const auto known = recent_.find(key);
    if (known != recent_.end() && into_.specs.texts[known->second] == text) return known->second;
    if (recent_.size() >= kRecent) recent_.clear();
    return recent_[key] = add(text);
  }
  std::uint32_t place_of_hash(std::string_view hash) {
    if (last_ != nullptr && last_->first == hash) return last_->second;
    const auto [known, fresh] = by_hash_.try_emplace(std::string(hash), 0);
    last_ = &*known;
    if (fresh) {
      known->second = add(kNoText);  // until it is fetched
      hashes_.push_back(last_);
    }
    return known->second;
  }

  using Place = std::pair<const std::string, std::uint32_t>;
  Snapshot& into_;
  StoredArrays& arrays_;
  std::unordered_map<std::size_t, std::uint32_t> recent_;   // std::hash of a text → its place
  std::unordered_map<std::string, std::uint32_t> by_hash_;  // its place
  std::vector<const Place*> hashes_;                        // of by_hash_
  const Place* last_ = nullptr;
};

}  // namespace

void load_jobs(Connection& connection, Snapshot& snapshot, StoredArrays& arrays, Connection::Deadline until) {
  const std::string text = std::string(
                               "COPY (SELECT CASE WHEN p.changed_json IS NULL THEN p.spec_hash END,"
                               " coalesce(p.changed_json, p.spec_json), ") +
                           kJobColumns +
                           " FROM job j LEFT JOIN job_spec p USING (id) ORDER BY j.id)"
                           " TO STDOUT (FORMAT binary)";
  Loading loading(snapshot, arrays);
  connection.copy_out(text, [&](RowReader& row) { loading.take(row); }, until);
  loading.take_tasks(JobId(std::numeric_limits<std::int64_t>::max()));
  loading.fetch_texts(connection, until);
}

}  // namespace tutti::db
