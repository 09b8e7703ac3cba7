#include "db/pg/pg_retention.h"

namespace tutti::db {
namespace {

constexpr Statement kDropPartition{"retention_partition",
                                   "SELECT coalesce(job_event_drop_partition($1::timestamptz), '')"};
constexpr Statement kForgetJobs{"retention_jobs", "SELECT tutti_forget_jobs($1::timestamptz, $2::integer)"};
constexpr Statement kForgetRecords{"retention_records",
                                   "SELECT tutti_forget_records($1::timestamptz, $2::integer)"};

}  // namespace

Forgotten PgRetention::forget(Instant before, int most) {
  Forgotten out;
  Params when;
  when.timestamptz(before);
  const Result dropped = session_.run(kDropPartition, std::move(when));
  out.partition = RowReader(dropped, 0).text();
  const auto rows = [&](const Statement& statement) {
    Params params;
    params.timestamptz(before).integer(most);
    const Result result = session_.run(statement, std::move(params));
    return RowReader(result, 0).bigint();
  };
  out.jobs = rows(kForgetJobs);
  const std::int64_t records = rows(kForgetRecords);
  out.more = out.jobs == most || records == most || !out.partition.empty();
  return out;
}

}  // namespace tutti::db
