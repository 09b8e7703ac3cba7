# Messages, core and service of the worker.
tutti_test(worker_messages_test LABEL unit SOURCES messages_test.cpp DEPS tutti_api_wire)
