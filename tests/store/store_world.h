// Both stores as one test sees them: every test gets a database of its own, `store_` leads it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_store.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/row_equality.h"
#include "tests/store/rows.h"

namespace tutti {

using namespace tutti::test;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class World {
 public:
  virtual ~World() = default;
  virtual std::unique_ptr<Store> store() = 0;
  virtual std::unique_ptr<Reader> reader() = 0;
  virtual void cut_session(Store& store) = 0;  // as if the network had
};

class PgWorld final : public World {
 public:
  std::unique_ptr<Store> store() override {
    db::PgStoreOptions options;
    options.connection_string = database_.connection_string();
    options.leadership_wait = std::chrono::milliseconds(200);
    return std::make_unique<db::PgStore>(std::move(options));
  }
  std::unique_ptr<Reader> reader() override {
    return std::make_unique<db::PgReader>(database_.connection_string());
  }
  void cut_session(Store& store) override {
    const int pid = dynamic_cast<db::PgStore&>(store).backend_pid();
    database_.sql("SELECT pg_terminate_backend(" + std::to_string(pid) + ", 5000)");
  }
  // What somebody does with psql.
  std::vector<std::string> sql(const std::string& text) const { return database_.sql(text); }

 private:
  TestDatabase database_ = TestPostgres::instance().create_database();
};

class MemoryWorld final : public World {
 public:
  std::unique_ptr<Store> store() override { return std::make_unique<db::MemoryStore>(database_); }
  std::unique_ptr<Reader> reader() override { return std::make_unique<db::MemoryReader>(database_); }
  void cut_session(Store& store) override { dynamic_cast<db::MemoryStore&>(store).drop_session(); }

 private:
  std::shared_ptr<db::MemoryDatabase> database_ = std::make_shared<db::MemoryDatabase>();
};

enum class Kind {
  memory,
  postgres
};

class StoreTest : public testing::TestWithParam<Kind> {
 protected:
  StoreTest() { store_->acquire_leadership("test"); }

  StoreError::Kind refusal(const Batch& batch) { return refusal(*store_, batch); }
  static StoreError::Kind refusal(Store& store, const Batch& batch) {
    try {
      store.commit(batch);
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "the batch was accepted";
    return StoreError::corrupt;
  }

  std::unique_ptr<World> world_ = GetParam() == Kind::memory
                                      ? std::unique_ptr<World>(std::make_unique<MemoryWorld>())
                                      : std::make_unique<PgWorld>();
  std::unique_ptr<Store> store_ = world_->store();
  std::unique_ptr<Reader> reader_ = world_->reader();
};

}  // namespace tutti
