# Messages, core and service of the worker.
tutti_test(worker_messages_test LABEL unit SOURCES messages_test.cpp DEPS tutti_api_wire)
tutti_test(worker_core_test LABEL unit SOURCES worker_core_test.cpp launch_plan_test.cpp DEPS tutti_worker_core)
