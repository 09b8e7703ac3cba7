// How a job is stopped, saved, started again and watched: how a spec says it. Readers of job_spec_codec's
// table.
#pragma once

#include <boost/json/value.hpp>

#include "api/wire/spec_reader.h"
#include "scheduler/model/job_spec.h"

namespace tutti::wire {

void read_stop(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_checkpoint(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_retry(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_hang(SpecReader&, const Path&, const boost::json::value&, JobSpec&);

}  // namespace tutti::wire
