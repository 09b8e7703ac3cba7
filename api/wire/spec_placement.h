// Where a job may run: how a spec says it. Readers of job_spec_codec's table.
#pragma once

#include <boost/json/value.hpp>

#include "api/wire/spec_reader.h"
#include "scheduler/model/job_spec.h"

namespace tutti::wire {

void read_gpus(SpecReader&, const Path&, const boost::json::value&, Resources&);
void read_nodes(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_topology(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_constraints(SpecReader&, const Path&, const boost::json::value&, JobSpec&);

}  // namespace tutti::wire
