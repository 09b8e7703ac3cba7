// Whoever is told what goes into the control plane and what comes out of it, so that the same can be decided
// again (scheduler/decisions writes it down). It is told on the control thread, takes no part in deciding,
// and must neither throw nor wait.
//
// One life of a control plane: began(), then rounds of called() … decided(), and committed() when the rows of
// the round are stored, or hold nothing. A round without committed() never was: another life begins.
#pragma once

#include <cstddef>
#include <memory>

#include "scheduler/model/rows.h"
#include "scheduler/model/time.h"

namespace tutti {

class LeaseTable;
struct ControlSettings;
struct Output;

class PlaneWitness {
 public:
  virtual ~PlaneWitness() = default;

  // Before the control plane is built from these. `leases` outlives it, and is read at each tick.
  virtual void began(const ControlSettings& settings, std::shared_ptr<const Snapshot> snapshot,
                     const LeaseTable& leases, Now now) = 0;
  // Before it is decided: the method's number (core/plane_inputs.h), and where its arguments are.
  virtual void called(std::size_t method, Now now, const void* const* arguments) = 0;
  virtual void decided(const Output& output) = 0;
  virtual void committed() = 0;
};

}  // namespace tutti
