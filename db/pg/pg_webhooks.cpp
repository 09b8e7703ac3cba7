#include "db/pg/pg_webhooks.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

namespace json = boost::json;

constexpr int kForgottenAtOnce = 5000;

constexpr Statement kWebhooks{"webhooks", R"(
SELECT name, url, kind, events::text, projects::text, secret, enabled, after_event, created_at, changed_at, changed_by
FROM webhook ORDER BY name COLLATE "C")"};

constexpr Statement kPut{"webhook_put", R"(
INSERT INTO webhook (name, url, kind, events, projects, secret, enabled, after_event, created_at, changed_at,
                     changed_by)
VALUES ($1::text, $2::text, $3::text, $4::text::jsonb, $5::text::jsonb, $6::text, $7::bigint <> 0, $8::bigint,
        $9::timestamptz, $10::timestamptz, $11::text)
ON CONFLICT (name) DO UPDATE SET url = excluded.url, kind = excluded.kind, events = excluded.events,
  projects = excluded.projects, secret = excluded.secret, enabled = excluded.enabled,
  after_event = excluded.after_event, changed_at = excluded.changed_at, changed_by = excluded.changed_by)"};

constexpr Statement kRemove{"webhook_remove", "DELETE FROM webhook WHERE name = $1::text RETURNING 1"};
constexpr Statement kCursor{"webhook_cursor", "SELECT event FROM webhook_cursor"};
constexpr Statement kMove{"webhook_move", "UPDATE webhook_cursor SET event = greatest(event, $1::bigint)"};

// One whose webhook has been removed meanwhile has nobody to go to.
constexpr Statement kEnqueue{"webhook_enqueue", R"(
INSERT INTO webhook_delivery (event, webhook, state, notice, job, body, attempts, created_at, next_at, ended_at,
                              status, error)
SELECT u.event, u.webhook, 1, u.notice, u.job, u.body, 0, u.created_at, u.next_at, NULL, 0, ''
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::timestamptz[])
     AS u(event, webhook, notice, job, body, created_at, next_at)
JOIN webhook w ON w.name = u.webhook
ON CONFLICT (webhook, event) DO NOTHING)"};

constexpr Statement kBound{"webhook_bound", R"(
UPDATE webhook_delivery d SET state = 3, ended_at = $2::timestamptz, error = 'too many wait for this webhook'
FROM webhook w
CROSS JOIN LATERAL (
  SELECT x.event FROM webhook_delivery x WHERE x.webhook = w.name AND x.state = 1
  ORDER BY x.event DESC OFFSET $1::bigint) old
WHERE d.webhook = w.name AND d.event = old.event)"};

#define TUTTI_DELIVERY_COLUMNS                                                                              \
  "d.event, d.webhook, d.state, d.notice, d.job, d.body, d.attempts, d.created_at, d.next_at, d.ended_at, " \
  "d.status, d.error"

constexpr Statement kDue{"webhook_due", "SELECT " TUTTI_DELIVERY_COLUMNS R"(
FROM webhook w
CROSS JOIN LATERAL (
  SELECT * FROM webhook_delivery x WHERE x.webhook = w.name AND x.state = 1 AND x.next_at <= $1::timestamptz
  ORDER BY x.next_at, x.event LIMIT $2::bigint) d
WHERE w.enabled
ORDER BY w.name COLLATE "C", d.next_at, d.event)"};

constexpr Statement kNextDue{"webhook_next_due", R"(
SELECT min(d.next_at) FROM webhook w
CROSS JOIN LATERAL (
  SELECT x.next_at FROM webhook_delivery x WHERE x.webhook = w.name AND x.state = 1
  ORDER BY x.next_at, x.event LIMIT 1) d
WHERE w.enabled)"};

constexpr Statement kRecord{"webhook_record", R"(
UPDATE webhook_delivery SET state = $3::bigint::smallint, attempts = $4::integer, next_at = $5::timestamptz,
  ended_at = $6::timestamptz, status = $7::integer, error = $8::text
WHERE webhook = $1::text AND event = $2::bigint)"};

constexpr Statement kDeliveries{"webhook_deliveries", "SELECT " TUTTI_DELIVERY_COLUMNS R"(
FROM webhook_delivery d
WHERE d.webhook = $1::text AND d.event < $2::bigint AND ($3::bigint = 0 OR d.state = $3::bigint)
ORDER BY d.event DESC LIMIT $4::bigint)"};

constexpr Statement kForget{"webhook_forget", R"(
DELETE FROM webhook_delivery d USING (
  SELECT webhook, event FROM webhook_delivery WHERE state <> 1 AND ended_at < $1::timestamptz
  ORDER BY ended_at LIMIT $2::bigint) old
WHERE d.webhook = old.webhook AND d.event = old.event)"};

std::vector<std::string> names_in(std::string_view text) {
  std::vector<std::string> out;
  const auto list = json::parse(text);
  for (const auto& item : list.as_array()) out.emplace_back(item.as_string());
  return out;
}

WebhookRow read_webhook(RowReader& r) {
  WebhookRow row;
  row.name = r.text();
  row.url = r.text();
  row.kind = r.text();
  row.events = names_in(r.bytes());
  row.projects = names_in(r.bytes());
  row.secret = r.text();
  row.enabled = r.boolean();
  row.after = EventId(r.bigint());
  row.created_at = r.timestamptz();
  row.changed_at = r.timestamptz();
  row.changed_by = r.text();
  return row;
}

DeliveryRow read_delivery(RowReader& r) {
  DeliveryRow row;
  row.event = EventId(r.bigint());
  row.webhook = r.text();
  row.state = static_cast<DeliveryState>(r.smallint());
  row.notice = r.text();
  row.job = JobId(r.bigint());
  row.body = r.text();
  row.attempts = r.integer();
  row.created_at = r.timestamptz();
  row.next_at = r.timestamptz();
  row.ended_at = r.timestamptz_or_null().value_or(Instant{});
  row.status = r.integer();
  row.error = r.text();
  return row;
}

template <class Row, class Read>
std::vector<Row> rows_of(const Result& result, Read read) {
  std::vector<Row> out;
  for (int i = 0; i < result.rows(); ++i) {
    RowReader row(result, i);
    out.push_back(read(row));
  }
  return out;
}

}  // namespace

std::vector<WebhookRow> PgWebhooks::webhooks() {
  return rows_of<WebhookRow>(session_.run(kWebhooks), read_webhook);
}

void PgWebhooks::put(const WebhookRow& row) {
  Params p;
  p.text(row.name)
      .text(row.url)
      .text(row.kind)
      .text(names_json(row.events))
      .text(names_json(row.projects))
      .text(row.secret)
      .bigint(row.enabled ? 1 : 0)
      .bigint(row.after.value)
      .timestamptz(row.created_at)
      .timestamptz(row.changed_at)
      .text(row.changed_by);
  session_.run(kPut, std::move(p));
}

bool PgWebhooks::remove(std::string_view name) {
  Params p;
  p.text(name);
  return session_.run(kRemove, std::move(p)).rows() > 0;
}

EventId PgWebhooks::cursor() {
  const Result r = session_.run(kCursor);
  if (r.rows() != 1) throw StoreError(StoreError::corrupt, "table webhook_cursor has not exactly one row");
  RowReader row(r, 0);
  return EventId(row.bigint());
}

void PgWebhooks::enqueue(const std::vector<DeliveryRow>& rows, EventId seen, std::size_t most_waiting,
                         Instant now) {
  session_.transact([&](Pipeline& pipeline) {
    if (!rows.empty()) {
      Params p;
      p.column(rows, [](const DeliveryRow& d) { return d.event; })
          .column(rows, [](const DeliveryRow& d) -> std::string_view { return d.webhook; })
          .column(rows, [](const DeliveryRow& d) -> std::string_view { return d.notice; })
          .column(rows, [](const DeliveryRow& d) { return d.job; })
          .column(rows, [](const DeliveryRow& d) -> std::string_view { return d.body; })
          .column(rows, [](const DeliveryRow& d) { return d.created_at; })
          .column(rows, [](const DeliveryRow& d) { return d.next_at; });
      pipeline.add(kEnqueue, std::move(p));
      Params bound;
      bound.bigint(static_cast<std::int64_t>(most_waiting)).timestamptz(now);
      pipeline.add(kBound, std::move(bound));
    }
    Params cursor;
    cursor.bigint(seen.value);
    pipeline.add(kMove, std::move(cursor));
  });
}

std::vector<DeliveryRow> PgWebhooks::due(Instant now, int of_each) {
  Params p;
  p.timestamptz(now).bigint(of_each);
  return rows_of<DeliveryRow>(session_.run(kDue, std::move(p)), read_delivery);
}

std::optional<Instant> PgWebhooks::next_due() {
  const Result r = session_.run(kNextDue);
  RowReader row(r, 0);
  return row.timestamptz_or_null();
}

void PgWebhooks::record(const DeliveryRow& row) {
  Params p;
  p.text(row.webhook)
      .bigint(row.event.value)
      .bigint(static_cast<std::int64_t>(row.state))
      .integer(row.attempts)
      .timestamptz(row.next_at)
      .timestamptz(null_if_zero(row.ended_at))
      .integer(row.status)
      .text(row.error);
  session_.run(kRecord, std::move(p));
}

std::vector<DeliveryRow> PgWebhooks::deliveries(std::string_view webhook, std::optional<DeliveryState> state,
                                                EventId before, int limit) {
  Params p;
  p.text(webhook)
      .bigint(before ? before.value : INT64_MAX)
      .bigint(state ? static_cast<std::int64_t>(*state) : 0)
      .bigint(std::clamp(limit, 1, 1000));
  return rows_of<DeliveryRow>(session_.run(kDeliveries, std::move(p)), read_delivery);
}

void PgWebhooks::forget(Instant ended_before) {
  Params p;
  p.timestamptz(ended_before).bigint(kForgottenAtOnce);
  session_.run(kForget, std::move(p));
}

}  // namespace tutti::db
