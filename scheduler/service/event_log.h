// One line of the log for each row of the history, after its commit: what changed, of which job, attempt and
// node, why. Called by Leader. Control thread.
#pragma once

#include "scheduler/core/control_plane.h"
#include "scheduler/model/rows.h"

namespace tutti {

/// `plane` gives names and numbers that the rows have not; null: they are left out.
void log_events(const Batch& batch, const ControlPlane* plane);

}  // namespace tutti
