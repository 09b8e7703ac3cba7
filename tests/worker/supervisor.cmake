tutti_test(supervisor_messages_test LABEL unit
  SOURCES supervisor_messages_test.cpp
  DEPS tutti_worker_supervisor)

# Real processes. The programs are found beside the test.
tutti_test(supervisor_process_test LABEL unit TIMEOUT 240
  SOURCES supervisor_process_test.cpp supervisor_rig.cpp
  DEPS tutti_worker_supervisor)
foreach(test supervisor_process_test)
  add_dependencies(${test} tutti-supervisor tutti-rank tutti-launch-agent)
endforeach()
