// Jobs of the same words have one spec, and what is remembered has an end.
#include "scheduler/core/spec_pool.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

SpecPtr fresh(const std::string& name) {
  auto spec = std::make_shared<JobSpec>();
  spec->name = name;
  return spec;
}

TEST(SpecPool, TheSameTextHasOneSpecForAsLongAsSomebodyHasIt) {
  SpecPool pool;
  int made = 0;
  const auto make = [&] { return ++made, fresh("a"); };
  SpecPtr first = pool.shared("text", make);
  EXPECT_EQ(pool.shared("text", make), first);
  EXPECT_EQ(made, 1);
  EXPECT_NE(pool.shared("other", make), first);
  EXPECT_EQ(made, 2);
  const std::weak_ptr<const JobSpec> watched = first;
  first.reset();
  EXPECT_TRUE(watched.expired()) << "the pool keeps none alive";
  EXPECT_NE(pool.shared("text", make), nullptr);
  EXPECT_EQ(made, 3);
}

TEST(SpecPool, WithoutATextAndWithALargeOneNothingIsShared) {
  SpecPool pool;
  for (const auto& text : {std::string(), std::string(SpecPool::kMaxText + 1, 'x')}) {
    const SpecPtr one = pool.shared(text, [] { return fresh("one"); });
    const SpecPtr two = pool.shared(text, [] { return fresh("two"); });
    EXPECT_NE(one, two);
    EXPECT_EQ(two->name, "two");
  }
  EXPECT_EQ(pool.size(), 0U);
}

TEST(SpecPool, RemembersNoMoreThanItMay) {
  SpecPool pool(10);
  std::vector<SpecPtr> kept;
  for (int i = 0; i < 1000; ++i) {
    const auto text = std::to_string(i);
    const SpecPtr spec = pool.shared(text, [&] { return fresh(text); });
    EXPECT_EQ(spec->name, text);
    if (i % 2 == 0) kept.push_back(spec);
    EXPECT_LE(pool.size(), 10U);
  }
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i]->name, std::to_string(2 * i));
}

}  // namespace
}  // namespace tutti
