// When a job may run, after whom, and how often: how a spec says it. Readers of job_spec_codec's table.
#pragma once

#include <boost/json/value.hpp>

#include "api/wire/spec_reader.h"
#include "scheduler/model/job_spec.h"

namespace tutti::wire {

void read_begin_time(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_deadline(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_depends_on(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_schedule(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_scheduled_by(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_array(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_matrix(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
/// What no field can say alone.
void check_together(SpecReader&, const Path& root, const JobSpec&);

}  // namespace tutti::wire
