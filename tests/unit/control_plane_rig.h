// The suite of control_plane_test.cpp and control_plane_waiting_test.cpp: an empty cluster for each test.
#pragma once

#include <gtest/gtest.h>

#include "tests/support/test_env.h"

namespace tutti::testing {

struct ControlPlaneTest : ::testing::Test {
  TestEnv env;
};

}  // namespace tutti::testing
