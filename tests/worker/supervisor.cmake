tutti_test(supervisor_messages_test LABEL unit
  SOURCES supervisor_messages_test.cpp
  DEPS tutti_worker_supervisor)

tutti_test(supervisor_gang_part_test LABEL unit
  SOURCES supervisor_gang_part_test.cpp
  DEPS tutti_worker_supervisor)

# Real processes. The programs are found beside the test.
tutti_test(supervisor_process_test LABEL unit TIMEOUT 240
  SOURCES supervisor_process_test.cpp supervisor_account_test.cpp supervisor_rig.cpp
  DEPS tutti_worker_supervisor)
tutti_test(supervisor_parts_test LABEL unit
  SOURCES supervisor_parts_test.cpp supervisor_rig.cpp
  DEPS tutti_worker_supervisor)
foreach(test supervisor_process_test supervisor_parts_test)
  add_dependencies(${test} tutti-supervisor tutti-rank tutti-shell tutti-launch-agent)
endforeach()
tutti_test(container_test LABEL unit TIMEOUT 240
  SOURCES container_test.cpp image_cache_test.cpp oci_archive_test.cpp container_process_test.cpp supervisor_rig.cpp
  DEPS tutti_worker_supervisor tutti_worker_container)
add_dependencies(container_test tutti-supervisor tutti-rank tutti-image)

find_package(MPI COMPONENTS CXX QUIET)
if(MPI_CXX_FOUND)
  # Without sanitizers: Open MPI's own leaks are not ours to judge.
  add_executable(supervisor_mpi_program supervisor_mpi_program.cpp)
  target_link_libraries(supervisor_mpi_program PRIVATE MPI::MPI_CXX)
  tutti_test(supervisor_mpi_test LABEL unit TIMEOUT 240
    SOURCES supervisor_mpi_test.cpp supervisor_rig.cpp
    DEPS tutti_worker_supervisor)
  target_compile_definitions(supervisor_mpi_test PRIVATE
    TUTTI_MPI_PROGRAM="$<TARGET_FILE:supervisor_mpi_program>")
  add_dependencies(supervisor_mpi_test tutti-supervisor tutti-rank tutti-launch-agent supervisor_mpi_program)
else()
  message(STATUS "Open MPI not found: supervisor_mpi_test is left out")
endif()
