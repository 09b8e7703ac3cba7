// Every input of the control plane, with made-up arguments, comes out of the log as it went in.
#include "scheduler/decisions/codec.h"

#include <gtest/gtest.h>

#include "api/wire/job_spec_codec.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti::decisions {
namespace {

// Something else in every field: lists have two items, what may be absent is there.
class MadeUp {
 public:
  template <class T>
  void fill(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = true;
    } else if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(1);
    } else if constexpr (std::is_arithmetic_v<T>) {
      value = static_cast<T>(next());
    } else if constexpr (std::is_same_v<T, std::string>) {
      value = "text " + std::to_string(next()) + " \n\xff";
    } else if constexpr (std::is_same_v<T, std::string_view>) {
      value = "who";
    } else if constexpr (requires(T v) { v.time_since_epoch(); }) {
      value = T(typename T::duration(-next()));
    } else if constexpr (requires(T v) { v.count(); }) {
      value = T(next());
    } else if constexpr (is_a<T, Id>) {
      value.value = next();
    } else if constexpr (is_a<T, std::optional>) {
      fill(value.emplace());
    } else if constexpr (is_a<T, std::shared_ptr>) {
      auto made = std::make_shared<std::remove_const_t<typename T::element_type>>();
      if constexpr (!std::is_same_v<T, SpecPtr>) fill(*made);
      value = made;
    } else if constexpr (is_a<T, std::vector>) {
      for (int i = 0; i < 2; ++i) fill(value.emplace_back());
    } else if constexpr (is_a<T, std::map>) {
      for (int i = 0; i < 2; ++i) {
        typename T::key_type key;
        fill(key);
        fill(value[key]);
      }
    } else if constexpr (is_array<T>) {
      for (auto& item : value) fill(item);
    } else if constexpr (is_a<T, std::pair> || is_a<T, std::tuple>) {
      std::apply([&](auto&... field) { (fill(field), ...); }, value);
    } else {
      boost::pfr::for_each_field(value, [&](auto& field) { fill(field); });
    }
  }

 private:
  std::int64_t next() { return n_ += 7; }
  std::int64_t n_ = 100;
};

// Takes what it is told, and stops it before it is decided: nothing sensible would be.
struct Told {};
class Listener : public PlaneWitness {
 public:
  void began(const ControlSettings&, std::shared_ptr<const Snapshot>, const LeaseTable&, Now) override {}
  void called(std::size_t method, Now, const void* const* arguments) override {
    ByteWriter out(bytes);
    write_call(out, method, arguments);
    throw Told();
  }
  void decided(const Output&) override {}
  void committed() override {}
  std::string bytes;
};

struct Plane {
  Plane() { plane.watched_by(&listener); }
  LeaseTable leases{LeaseSettings{}};
  ControlPlane plane{ControlSettings{}, Snapshot{}, spec_text(), leases, Now{}};
  Listener listener;
};

ByteReader reader_of(std::string bytes) {
  return ByteReader([bytes = std::move(bytes), given = false](std::string& into) mutable {
    if (std::exchange(given, true)) return false;
    into += bytes;
    return true;
  });
}

template <std::size_t N>
void expect_the_same_again() {
  using I = std::tuple_element_t<N, PlaneInputs>;
  arguments_of<I::kMethod> arguments;
  MadeUp().fill(arguments);
  Plane first, second;
  const auto call = [&](const auto&... a) { (void)(first.plane.*I::kMethod)(Now{}, a...); };
  EXPECT_THROW(std::apply(call, arguments), Told) << I::name() << " does not tell its witness at once";
  ASSERT_FALSE(first.listener.bytes.empty()) << I::name();

  ByteReader reader = reader_of(first.listener.bytes);
  ASSERT_EQ(reader.whole(), static_cast<std::uint64_t>(Tag::call) + N) << I::name();
  EXPECT_EQ(input_name(N), I::name());
  const Call again = read_call(reader, N);
  EXPECT_TRUE(reader.at_end()) << I::name();
  EXPECT_THROW(again(second.plane, Now{}), Told) << I::name();
  EXPECT_EQ(second.listener.bytes, first.listener.bytes) << I::name();
}

TEST(DecisionCodec, EveryInputComesBackAsItWas) {
  [&]<std::size_t... N>(std::index_sequence<N...>) { (expect_the_same_again<N>(), ...); }
  (std::make_index_sequence<kPlaneInputs>{});
}

TEST(DecisionCodec, BytesThatEndEarlyAreNotTakenForAnother) {
  std::string bytes;
  ByteWriter out(bytes);
  std::vector<SubmitRequest> requests(1);
  requests[0].spec_json = R"({"name":"j","run":"true"})";
  requests[0].owner = "ada";
  const void* const arguments[] = {&requests};
  write_call(out, number_of_input<&ControlPlane::on_submit_all>(), arguments);
  for (std::size_t n = 1; n < bytes.size(); ++n) {
    ByteReader in = reader_of(bytes.substr(1, n - 1));
    EXPECT_THROW((void)read_call(in, number_of_input<&ControlPlane::on_submit_all>()), EndOfBytes) << n;
  }
}

TEST(DecisionCodec, AKeyStandsInTheBytesOnlyMasked) {
  Output output;
  output.batch.new_specs.push_back({.id = JobId(1),
                                    .owner = "ada",
                                    .name = "j",
                                    .spec_json = "{}",
                                    .created_at = {},
                                    .idempotency_key = "hunter2"});
  output.batch.forgotten_keys.push_back({"ada", "hunter2"});
  const ByteWriter::Mask mask = [](std::string_view) { return "masked"; };
  std::string bytes, replayed;
  write_output(bytes, output, &mask);
  EXPECT_EQ(bytes.find("hunter2"), std::string::npos);
  // What a replay has is what stands in the log; its bytes are the same.
  output.batch.new_specs[0].idempotency_key = output.batch.forgotten_keys[0].key = "masked";
  write_output(replayed, output, nullptr);
  EXPECT_EQ(replayed, bytes);
}

TEST(DecisionCodec, NothingDecidedIsNoBytes) {
  std::string bytes;
  write_output(bytes, Output{}, nullptr);
  EXPECT_EQ(bytes, "");
}

}  // namespace
}  // namespace tutti::decisions
