// Who hears what workers measure, beside the control plane, which decides nothing by it. Implemented by
// series_record, called by worker_hub for every message of a registered worker. Control thread; must not
// block.
#pragma once

#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"

namespace tutti {

class SampleSink {
 public:
  virtual ~SampleSink() = default;
  virtual void on_loads(NodeId node, const std::vector<protocol::GpuLoad>& loads) = 0;
  virtual void on_progress(NodeId node, const protocol::Progress& progress) = 0;
  virtual void on_ranks(NodeId node, const protocol::RankReport& report) = 0;
};

}  // namespace tutti
