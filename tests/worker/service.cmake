# Messages, core and service of the worker.
tutti_test(worker_messages_test LABEL unit SOURCES messages_test.cpp messages_refused_test.cpp DEPS tutti_api_wire)
tutti_test(worker_core_test LABEL unit SOURCES worker_core_test.cpp worker_ends_test.cpp worker_health_test.cpp worker_gate_test.cpp worker_peers_test.cpp worker_checkpoints_test.cpp worker_evidence_test.cpp launch_plan_test.cpp hang_watch_test.cpp account_test.cpp DEPS tutti_worker_core)

tutti_test(worker_child_test LABEL unit
  SOURCES child_test.cpp path_check_test.cpp peer_link_test.cpp preflight_test.cpp capture_test.cpp probe_process_test.cpp node_watch_test.cpp accounts_test.cpp addresses_test.cpp job_files_test.cpp
  DEPS tutti_worker_service)
add_dependencies(worker_child_test tutti-node-check tutti-preflight tutti-capture)

# Real processes; the scheduler is played by the test.
tutti_test(worker_service_test LABEL e2e TIMEOUT 300
  SOURCES worker_service_test.cpp worker_hang_test.cpp worker_checkpoint_service_test.cpp worker_node_test.cpp worker_replica_test.cpp worker_shell_test.cpp worker_rig.cpp
  DEPS tutti_api_http tutti_api_wire)
add_dependencies(worker_service_test tutti-worker tutti-gpu-sim nvidia_ml_double)
tutti_test(worker_checkpoint_files_test LABEL unit SOURCES checkpoint_files_test.cpp checkpoint_tool_test.cpp DEPS tutti_worker_service)
add_dependencies(worker_checkpoint_files_test tutti-checkpoint)
tutti_test(worker_join_test LABEL unit SOURCES join_test.cpp DEPS tutti_worker_service tutti_api_http_client)
