tutti_test(supervisor_messages_test LABEL unit
  SOURCES supervisor_messages_test.cpp
  DEPS tutti_worker_supervisor)
