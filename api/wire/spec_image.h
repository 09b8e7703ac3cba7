// The image of a job's ranks and what they see beside it: how a spec says it. Readers of job_spec_codec's
// table.
//
// An image is one of
//   docker://REGISTRY/NAME:TAG, or NAME:TAG alone   fetched by podman, enroot or apptainer
//   oci-archive:/PATH, or /PATH of an archive        unpacked on the node
//   /PATH of a directory                             a root directory (used where it lies), or an OCI layout
#pragma once

#include <boost/json/value.hpp>

#include "api/wire/spec_reader.h"
#include "scheduler/model/job_spec.h"

namespace tutti::wire {

void read_image(SpecReader&, const Path&, const boost::json::value&, JobSpec&);
void read_mounts(SpecReader&, const Path&, const boost::json::value&, JobSpec&);

/// After all fields: shm_size and mounts need an image, and an image needs nodes that run it, which it says by
/// a constraint.
void check_image(SpecReader&, const Path& root, JobSpec&);

}  // namespace tutti::wire
