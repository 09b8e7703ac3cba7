// Rows and memory as JSON objects of the API, one function per noun. Pure: no request, no waiting.
// Field names and meaning: openapi.json, which the handler tests hold every answer against.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/reader.h"
#include "scheduler/core/control_plane.h"

namespace tutti::api {

boost::json::value instant_or_null(Instant at);  // null for epoch 0

struct Ending {
  Instant at;
  int exit_code = 0;
};

/// Without labels, spec and live parts.
boost::json::object job_view(const JobRow& row, std::string_view name, std::optional<Ending> ending,
                             boost::json::storage_ptr storage = {});
/// A job as it was at its submission: the answer to POST, and to every replay of it.
boost::json::object submitted_view(JobId id, std::string_view owner, const JobSpec& spec, Instant created_at,
                                   JobState state, boost::json::storage_ptr storage = {});
boost::json::object labels_view(const JobSpec& spec);
/// Labels, progress and allocation of a job that is in memory.
void add_live_parts(boost::json::object& job, const ControlPlane& plane, const Job& live);
/// What its failures may still cost it, and when it is expected to start and to end.
void add_outlook(boost::json::object& job, const ControlPlane& plane, const Job& live, Now now);
/// The nodes of an attempt, and the indices of its GPUs there.
boost::json::array allocation_view(const AttemptRow& row, const Cluster& cluster);
/// The job with its spec, whose text is canonical JSON already.
std::string with_spec(const boost::json::object& job, std::string_view spec_json);

/// `live`: the same attempt in memory, if it still runs.
boost::json::object attempt_view(const AttemptRow& row, const Cluster& cluster, const Attempt* live,
                                 const std::vector<CheckpointRow>& checkpoints);
boost::json::object event_view(const EventRow& row, const Cluster* cluster);
boost::json::object fault_view(const FaultRow& row, const Cluster& cluster);
/// `visible`: of a job that is hidden there is no id.
boost::json::object gpu_view(const Gpu& gpu, const ControlPlane& plane,
                             const std::optional<Visible>& visible);
/// GPUs that their nodes no longer report, by node: gathered once for a list of nodes.
using AbsentGpus = std::map<NodeId, std::vector<const Gpu*>>;
AbsentGpus absent_gpus(const Cluster& cluster);
boost::json::object explanation_view(const Explanation& explanation);
boost::json::value eta_view(const std::optional<Eta>& eta);
boost::json::object lemon_view(const ControlPlane& plane, const Node& node, Now now);
boost::json::object node_view(const Node& node, const ControlPlane& plane, const AbsentGpus& absent,
                              const std::optional<Visible>& visible);
boost::json::object inspection_view(const Node& node);
boost::json::array reasons_view(const std::vector<Reason>& reasons);

std::string_view gpu_state(const Gpu& gpu);

}  // namespace tutti::api
